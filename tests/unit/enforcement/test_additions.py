"""What a place is given beside enforcement: nothing, unless a lab is offered and, over SSH, asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from containerd import enforce
from containerd.machine import Machine
from containerd.survey import Survey
from countersign.console.config import Settings
from countersign.console.errors import MissingError, UsageError
from countersign.cri.model import Auth
from countersign.enforcement import additions, reach
from countersign.enforcement.additions import NOTHING, Addition, Lab
from countersign.enforcement.layout import SYSTEM
from countersign.runtimes.work import TOOLS, steps, work
from crio.machine import Machine as CrioMachine
from lab.demo.lab import DEMO
from lab.demo.remote import NAMES

PIN = f"registry.example/pause@sha256:{'a' * 64}"


class Given(Addition):
    names = ("one.test", "two.test")
    urls = MappingProxyType({"one.test": "http://127.0.0.1:5000", "two.test": "https://127.0.0.1:5001"})
    logins = MappingProxyType({"two.test": Auth("user", "secret")})
    ca = b"PEM"


GIVEN = Given()
NODE: Any = SimpleNamespace(name="box", expose=lambda port: f"http://127.0.0.1:{port}")


def survey(sandbox: str = PIN) -> Survey:
    return Survey(
        version=(2, 4, 2),
        config=b"version = 3\n",
        base_specs={"/etc/countersign/base-runc.json": b'{"process": {}}'},
        handlers={"runc": "/etc/countersign/base-runc.json"},
        sandbox=sandbox,
        snapshotter="overlayfs",
        certs="/etc/containerd/certs.d",
        platform="linux/amd64",
        systemd_cgroups=True,
        lacks_resource=False,
        nri="/run/nri.sock",
        sandbox_named="registry.k8s.io/pause:3.10",
    )


@pytest.fixture
def users(tmp_path: Path) -> Settings:
    """A user's policy with a key of their own, and a login."""
    from countersign.keys import files as keyfiles
    from countersign.keys.pair import generate

    keyfiles.write(tmp_path / "own", generate(), b"x")
    policy = "apiVersion: countersign/v1\ndefault: reject\nroots:\n  own: {publicKey: {files: [own.pub]}}\n"
    (tmp_path / "policy.yaml").write_text(f"{policy}scopes:\n  quay.io/team: {{anyOf: [own]}}\n")
    return Settings(policy=tmp_path / "policy.yaml", keys=tmp_path / "keys", state=tmp_path / "state")


def on_containerd(settings: Settings, addition: Addition) -> Mapping[str, bytes]:
    """Return path → content of all that set-up puts on a machine with containerd."""
    machine = Machine(Path("/s"), NODE, SYSTEM, ("runc",), Path("/s/pins.json"), addition).surveyed(survey())
    programs = dict.fromkeys(TOOLS, settings.policy)
    laid = list(enforce.laid_out(steps(work(settings, machine, (PIN,), programs))))
    return {part.path: _content(part) for part in laid}


def _content(part: Any) -> bytes:
    content = getattr(part, "content", b"")
    return content if isinstance(content, bytes) else content.read_bytes()


def on_crio(settings: Settings, addition: Addition) -> Mapping[str, bytes]:
    """Return path → content of what CRI-O's own engine is given."""
    machine = CrioMachine(Path("/s"), NODE, SYSTEM, ("runc",), Path("/s/pins.json"), addition)
    native = machine.native(settings.policy, (PIN,))
    way = [part for group in machine.way() for part in group.parts]
    return {str(getattr(part, "path", part.name)): _content(part) for part in (*native, *way)}


@pytest.mark.usefixtures("echoing_gate")
@pytest.mark.parametrize("laid_by", [on_containerd, on_crio])
@pytest.mark.parametrize(("addition", "named"), [(NOTHING, False), (GIVEN, True)])
def test_a_machine_knows_a_labs_registries_only_where_it_is_given_them(users, laid_by, addition, named):
    laid = laid_by(users, addition)
    marks = (b"one.test", b"two.test", b"127.0.0.1:500", b"countersign.test")
    found = [path for path, content in laid.items() if any(mark in path.encode() + content for mark in marks)]
    assert bool(found) is named, found
    assert any(b"quay.io/team" in content for content in laid.values()), "the policy itself is there"


def test_the_logins_are_the_users_and_what_is_given(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"quay.io": {"auth": "eDp5"}}}))
    assert json.loads(reach.docker_config(path, NOTHING.logins)) == {"auths": {"quay.io": {"auth": "eDp5"}}}
    assert set(json.loads(reach.docker_config(path, GIVEN.logins))["auths"]) == {"quay.io", "two.test"}


@pytest.mark.parametrize(
    ("asked", "used", "given"), [(False, False, False), (True, False, True), (False, True, True), (True, True, True)]
)
def test_a_machine_over_ssh_is_given_the_demo_where_it_is_asked_for_and_until_clean(tmp_path, asked, used, given):
    if used:
        (tmp_path / "remote" / "users").mkdir(parents=True)
        (tmp_path / "remote" / "users" / "containerd-box").touch()
    found = DEMO.for_machine(Settings(state=tmp_path), NODE, "containerd", asked=asked)
    assert (found.names == tuple(NAMES)) is given
    assert (found is NOTHING) is not given


def test_another_runtime_of_the_machine_has_it_for_itself(tmp_path):
    (tmp_path / "remote" / "users").mkdir(parents=True)
    (tmp_path / "remote" / "users" / "containerd-box").touch()
    assert DEMO.for_machine(Settings(state=tmp_path), NODE, "crio", asked=False) is NOTHING


def test_without_a_lab_nothing_is_given_and_asking_is_told(tmp_path):
    assert Lab().for_machine(Settings(), NODE, "containerd", asked=False) is NOTHING
    with pytest.raises(UsageError, match="there is no lab in this checkout"):
        Lab().for_machine(Settings(), NODE, "containerd", asked=True)


def test_nothing_makes_no_key_and_changes_nothing(tmp_path):
    assert not NOTHING.keys_to_come()
    assert [*NOTHING.prepared(), *NOTHING.running(), *NOTHING.released()] == []


@pytest.mark.parametrize(("sandbox", "given", "expected"), [(PIN, "", PIN), ("", "lab@sha256:1", "lab@sha256:1")])
def test_the_sandbox_image_is_the_machines_own_or_what_it_is_given(sandbox, given, expected):
    assert machine(sandbox, given).sandbox == expected


def test_a_machine_without_a_sandbox_image_is_told_what_to_bring():
    with pytest.raises(MissingError, match=r"does not have its sandbox image yet \(registry.k8s.io/pause:3.10\)"):
        _ = machine("", "").sandbox


def machine(sandbox: str, given: str) -> Machine:
    addition: Any = SimpleNamespace(sandbox=lambda: given)
    made = Machine(Path("/s"), NODE, SYSTEM, ("runc",), Path("/s/pins.json"), addition)
    return made.surveyed(survey(sandbox))


def test_what_tasks_offer_is_what_places_have():
    import tasks

    assert tasks.ns
    assert additions.offered() is DEMO


@pytest.mark.parametrize("content", ["", "null", "{}"])
def test_a_docker_config_that_says_nothing_has_no_logins(tmp_path: Path, content: str):
    path = tmp_path / "config.json"
    path.write_text(content)
    assert json.loads(reach.docker_config(path, {})) == {"auths": {}}
