"""The matrix through CRI-O's engine as a library: the rendered policy says what the gate says, or what is reviewed."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.keys.pair import generate
from countersign.oci.build import variant
from countersign.oci.registry import Registry
from countersign.tools.images import demo_layout
from countersign.tools.resolver import tool
from lab.demo.registries import MAPPED, REFERRERS
from lab.trials import library, runner
from lab.trials.consistency import compare
from lab.trials.engines import code_of
from lab.trials.lab import Lab, build
from lab.trials.library import judged_by
from lab.trials.model import load
from signing.sign import sign
from tests.images import push_image
from tests.interop.conftest import LOGIN, free_netloc, running, write_fallback


@pytest.fixture(scope="module")
def matrix(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, str]]]:
    """The images of the matrix in a registry of this test's own, under the demo's names."""
    folder, netloc = tmp_path_factory.mktemp("library"), free_netloc()
    hosts = folder / "certs.d"
    for name in MAPPED:
        (hosts / name).mkdir(parents=True)
        (hosts / name / "hosts.toml").write_text(f'server = "http://{netloc}"\n')
    argv = [str(tool("registry", settings)), "--address", netloc, "--dir", str(folder / "data")]
    (folder / "data").mkdir()
    with running(argv, netloc):
        cases = [case for case in load() if case.registry == "referrers"]

        def new_layout(mark: str, target: Path) -> Path:
            return variant(demo_layout(settings), mark, target)

        lab = build(folder / "lab", {"referrers": REFERRERS}, Registry(hosts), new_layout, cases)
        yield lab, dict.fromkeys(MAPPED, f"http://{netloc}")


def test_the_library_says_what_the_gate_says_or_what_is_reviewed(
    settings: Settings, matrix: tuple[Lab, dict[str, str]], tmp_path: Path
) -> None:
    lab, addresses = matrix
    own = replace(settings, state=tmp_path)
    runner.run(own, [library.series(own, lambda: lab, addresses)])
    document = json.loads((tmp_path / "report" / "library-crio-library.json").read_text())
    assert compare([document]).problems == []
    assert {row["image"] for row in document["rows"]} == {case.image for case in load() if case.way == "pull"}


@dataclass(frozen=True)
class Far:
    """A registry behind TLS under an own CA and a login, with an image that is signed and one that is not."""

    options: dict[str, str]
    signed: str
    unsigned: str


@pytest.fixture(scope="module")
def far(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder, netloc = tmp_path_factory.mktemp("far"), free_netloc()
    write_fallback(folder, netloc)
    certs = folder / "certs" / netloc
    certs.mkdir(parents=True)
    shutil.copy(folder / "ca.pem", certs / "ca.crt")
    auth = base64.b64encode(":".join(LOGIN).encode()).decode()
    (folder / "login.json").write_text(json.dumps({"auths": {netloc: {"auth": auth}}}))
    options = {"certs-dir": str(certs.parent), "auth": str(folder / "login.json")}
    with running([str(tool("registry-fallback", settings)), "serve", str(folder / "config.yml")], netloc):
        client = Registry(folder / "certs.d", folder / "config.json")
        key = generate()
        (folder / "team.pub").write_text(key.public.pem)
        (folder / "policy.yaml").write_text(
            "apiVersion: countersign/v1\ndefault: reject\n"
            f"roots: {{team: {{publicKey: {{files: [team.pub]}}}}}}\nscopes: {{'{netloc}': {{anyOf: [team]}}}}\n"
        )
        names = [f"{netloc}/far/{name}" for name in ("signed", "unsigned")]
        pushed = [push_image(client, name, "v1", name) for name in names]
        sign(client, names[0], pushed[0], key, ["attachment"])
        yield Far(options | _rendered(settings, folder), *(f"{name}:v1" for name in names))


def _rendered(settings: Settings, folder: Path) -> dict[str, str]:
    said = library.files(folder, settings, folder / "policy.yaml", {})
    options = dict(zip((each.removeprefix("--") for each in said[::2]), said[1::2], strict=True))
    return {name: options[name] for name in ("policy", "registries-d", "registries-conf")}


def _said(settings: Settings, options: dict[str, str], image: str) -> tuple[bool, str]:
    program = str(tool("countersign-library", settings))
    line = judged_by([program, *(f"--{name}={value}" for name, value in options.items()), image], 1)[image]
    return line["allow"], code_of(line["message"])


def test_a_registry_behind_tls_and_a_login_is_asked_with_both(settings: Settings, far: Far) -> None:
    assert _said(settings, far.options, far.signed) == (True, "")
    assert _said(settings, far.options, far.unsigned) == (False, "UNSIGNED")


@pytest.mark.parametrize(("option", "code"), [("auth", "REGISTRY_AUTH"), ("certs-dir", "REGISTRY_ERROR")])
def test_without_one_of_them_nothing_is_allowed(settings: Settings, far: Far, option: str, code: str) -> None:
    less = {name: value for name, value in far.options.items() if name != option}
    assert _said(settings, less, far.signed) == (False, code)


def test_a_registry_without_its_entry_in_registries_d_has_no_signatures(
    settings: Settings, far: Far, tmp_path: Path
) -> None:
    assert _said(settings, far.options | {"registries-d": str(tmp_path)}, far.signed) == (False, "UNSIGNED")
