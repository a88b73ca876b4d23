"""A private CRI-O on this host, from the binary that CRIO_BIN names: set up, tried whole, and gone without a trace."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.config import ROOT, Settings
from countersign.console.sources import load_settings
from crio import private
from lab.trials.crio_starts import STARTS
from lab.trials.demo import demo_images
from tests.e2e import footprint
from tests.starts import opened


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A state folder of its own."""
    return replace(load_settings(), state=tmp_path_factory.mktemp("s"))


@pytest.fixture(scope="module")
def before(settings: Settings) -> footprint.Footprint:
    """What this host had before."""
    return footprint.take(private.instance(settings.state).cgroup)


def inv(settings: Settings, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "inv"), *words],
        env={**os.environ, "INVOKE_STATE": str(settings.state), **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def configured(settings: Settings, before: footprint.Footprint) -> Iterator[Settings]:
    """CRI-O under enforcement; the last test takes it away itself."""
    done = inv(settings, "crio.configure", "--on", "host")
    assert done.returncode == 0, done.stderr
    yield settings
    inv(settings, "crio.clean", "--on", "host")


@pytest.mark.timeout(900)
def test_a_second_time_nothing_changes(configured: Settings) -> None:
    done = inv(configured, "crio.configure", "--on", "host", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changed"] == 0


def test_status_has_nothing_to_say_until_a_namespace_has_a_policy_of_its_own(configured: Settings) -> None:
    assert inv(configured, "crio.status").returncode == 0
    loose = Path(private.instance(configured.state).paths.namespaces) / "loose.json"
    loose.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    try:
        done = inv(configured, "crio.status", "--json")
        assert done.returncode == 4
        assert [each["problem"].partition(" is ")[0] for each in json.loads(done.stdout)["problems"]] == [str(loose)]
    finally:
        loose.unlink()
    assert inv(configured, "crio.status").returncode == 0


def test_a_hook_that_was_changed_by_hand_is_seen_and_mended(configured: Settings) -> None:
    hook = Path(private.instance(configured.state).paths.hook)
    content = hook.read_text()
    hook.write_text(content.replace("createRuntime", "poststop"))
    assert "not the hook that set-up wrote" in inv(configured, "crio.status").stderr
    assert inv(configured, "crio.configure").returncode == 0
    assert hook.read_text() == content


@pytest.mark.timeout(1200)
def test_the_whole_matrix_both_engines_and_every_start(configured: Settings) -> None:
    signed = inv(configured, "crio.sign")
    assert signed.returncode == 0, signed.stderr
    done = inv(configured, "crio.test")
    assert done.returncode == 0, done.stderr
    report = configured.state / "report"
    matrix = json.loads((report / "matrix-crio-host.json").read_text())
    assert (matrix["failed"], matrix["passed"] > 80) == (0, True)
    starts = json.loads((report / "starts-crio-host.json").read_text())
    assert (starts["failed"], starts["passed"]) == (0, len(STARTS))


def test_an_orderly_restart_keeps_its_pods(configured: Settings) -> None:
    assert inv(configured, "crio.sign").returncode == 0
    image = str(demo_images()[0])
    with opened(replace(configured, node="host", room="crio")) as place, place.at.client() as client:
        place.pull(image)
        container = place.create(place.image_id(image), image)
        place.start(container)
        pods = client.list_pods()
        place.at.controls().restart_runtime()
        assert client.list_pods() == pods
        assert client.status(container).state == "running"
        place.remove(container)


def test_bad_input_is_one_line_and_changes_nothing(configured: Settings) -> None:
    for environment, line in (
        ({"CRIO_BIN": "/nowhere/crio"}, "CRIO_BIN: /nowhere/crio: is not a program"),
        ({"INVOKE_CRIO_ENGINE": "off"}, "crio.engine: got 'off'; expected strict or lenient"),
    ):
        done = inv(configured, "crio.configure", "--on", "host", **environment)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert line in done.stderr
    assert inv(configured, "crio.status").returncode == 0


def test_clean_leaves_no_trace(configured: Settings, before: footprint.Footprint) -> None:
    assert inv(configured, "crio.clean").returncode == 0
    cgroup = private.instance(configured.state).cgroup
    left = footprint.take(cgroup).beside(before, str(configured.state))
    left["cgroups"] = {path for path in left["cgroups"] if cgroup in path}  # others come and go
    assert left == footprint.NOTHING
    assert footprint.processes(configured.state) == []
