"""The commands that are printed, run as they stand by somebody who has neither this checkout nor any configuration."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from countersign.tools.resolver import tool
from release import publish, verifying
from release.trust import ByKey as TrustKey
from tests.release.conftest import Lab, Made, Make


@pytest.fixture
def stranger(lab: Lab, tmp_path: Path) -> dict[str, str]:
    """An environment with the programs on PATH, and an empty home."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    for name in ("cosign", "countersign-gate"):
        (programs / name).symlink_to(tool(name, lab.settings))
    return {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "NO_PROXY": "127.0.0.1"}


def commands(made: Made) -> list[str]:
    place = verifying.Place(made.folder)
    trusted = TrustKey(made.lab.public)
    return verifying.verify(made.lab.settings, made.lab.project, "", place, trusted, tags=True).commands


def run(lines: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    text = "set -e\n" + "\n".join(lines)
    return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)


def test_what_is_printed_verifies_a_good_release_and_refuses_an_altered_one(
    make: Make, lab: Lab, stranger: dict[str, str]
) -> None:
    made = make()
    publish.move_tags(lab.client, made.release)
    lines = commands(made)
    assert sum(line.startswith("cosign verify-attestation ") for line in lines) == 3 + 2 * 2 + 1
    good = run(lines, stranger)
    assert good.returncode == 0, good.stderr
    with (made.folder / "app-1.2.3.tar.gz").open("ab") as file:
        file.write(b"\0")
    for line in lines[1:]:
        if "app-1.2.3.tar.gz" in line or line.startswith("sha256sum"):
            assert run([lines[0], line], stranger).returncode != 0, line


def inv(lab: Lab, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ./inv in a process of its own."""
    environment = os.environ | {"INVOKE_STATE": str(lab.settings.state), "COSIGN_PASSWORD": "of the release tests"}
    argv = [str(ROOT / "inv"), *words]
    return subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_task_verifies_a_folder_from_anywhere(make: Make, lab: Lab, tmp_path: Path) -> None:
    made = make()
    words = ["release.verify", "--folder", str(made.folder), "--key", str(lab.public), "--unpublished", "--json"]
    words += ["--project", str(lab.project.root / "release.yaml")]
    good = inv(lab, *words, cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    document = json.loads(good.stdout)
    assert document["version"] == "countersign.release-verified/v1"
    assert document["ok"] is True
    (made.folder / "app-1.2.3.tar.gz").write_bytes(b"")
    bad = inv(lab, *words, cwd=tmp_path)
    assert bad.returncode == 1
    assert "app-1.2.3.tar.gz: tampered, and 2 more" in bad.stderr
    assert [each["what"] for each in json.loads(bad.stdout)["findings"] if not each["ok"]] == [
        "app-1.2.3.tar.gz",
        "app-1.2.3.tar.gz: signature",
        "app-1.2.3.tar.gz: provenance",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--version", "v1.2.3"], "leave out the v: 1.2.3"),
        (["--folder", "/nowhere"], "/nowhere: there is no such folder"),
        (["--key", "/nowhere.pub"], "/nowhere.pub: there is no such public key"),
        (["--project", "/nowhere.yaml"], "/nowhere.yaml: is not there; expected a release.yaml"),
    ],
)
def test_what_is_mistyped_is_one_line(lab: Lab, words: list[str], says: str) -> None:
    given = {"--project": str(lab.project.root / "release.yaml"), "--key": str(lab.public), "--folder": "/tmp"}
    given |= dict([words])
    ended = inv(lab, "release.verify", *(word for pair in given.items() for word in pair))
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
