"""The matrix through CRI-O's engine as a library: the rendered policy says what the gate says, or what is reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cases import differences
from cases.lab import Lab, build
from cases.library import verdicts
from cases.model import load
from console.config import Settings
from enforcement.registries import MAPPED, REFERRERS
from oci.registry import Registry
from tests.interop.conftest import free_netloc, running
from tools.images import demo_layout, variant
from tools.resolver import tool


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
    found = verdicts(replace(settings, state=tmp_path), lab, addresses)
    expected = {case.image: case.allow for case in reversed(load()) if case.way == "pull"}
    known = differences.load()
    wrong = [
        (image, said)
        for image, said in found.items()
        if said["allow"] != expected[image] and known.excuse(image, "crio", allow=said["allow"]) is None
    ]
    assert not wrong
    assert not known.unused("crio")
    assert found.keys() == expected.keys()
    assert (tmp_path / "report" / "crio-library.json").is_file()
