"""A release whose images are signed in the format notation too: by exactly that certificate's subject."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from countersign.tools.resolver import tool
from lab.trials import notaries
from lab.trials.notaries import NotaryAuthority
from release import flow, opening, verifying
from release.made import Folder, State
from release.model import Notary
from release.trust import ByKey
from tests.release.conftest import Lab


@dataclass(frozen=True)
class Notarised:
    """A release in repositories of its own, and who has signed its images."""

    lab: Lab
    work: flow.Work
    state: State

    def verify(self, **changed: object) -> verifying.Verified:
        """Verify it as somebody who asks for another certificate."""
        notary = self.work.project.notary
        assert notary is not None
        project = replace(self.work.project, notary=replace(notary, **changed))  # type: ignore[arg-type]
        trusted, place = ByKey(self.lab.public), verifying.Place(self.work.folder.files)
        return verifying.verify(self.lab.settings, project, "1.2.3", place, trusted, tags=False)

    def refused(self, **changed: object) -> dict[str, str]:
        """Return what is refused → its reason."""
        return {each.what: each.reason for each in self.verify(**changed).findings if each.reason}


MakeNotarised = Callable[..., Notarised]


@pytest.fixture(scope="module")
def authority() -> NotaryAuthority:
    return notaries.make()


@pytest.fixture
def make_notarised(
    lab: Lab, built: Folder, authority: NotaryAuthority, tmp_path: Path, request: pytest.FixtureRequest
) -> MakeNotarised:
    def made(*formats: str, by: NotaryAuthority = authority, name: str = "release") -> Notarised:
        import shutil

        key = by.issue(name).write(tmp_path, "notary")
        (tmp_path / "ca.pem").write_text(authority.pem)
        notary = Notary(key.with_suffix(".crt"), (tmp_path / "ca.pem",), notaries.identity("release"))
        project = replace(lab.project, notary=notary)
        work = lab.work(f"n{abs(hash(request.node.nodeid)) % 10**9}")
        work = replace(work, project=project, notary=lambda: opening.notary(lab.settings, project))
        work.folder.path.parent.mkdir(parents=True)
        shutil.copytree(built.path, work.folder.path)
        state = flow.start(work)
        for stage in ("push", "chart", "sign", "attest", "checksums"):
            stage_work = work if formats or stage != "sign" else replace(work, project=lab.project)
            state = flow.run(stage_work, stage, state)
        return Notarised(lab, work, state)

    return made


def test_it_is_good_and_the_commands_that_are_printed_work(make_notarised: MakeNotarised, tmp_path: Path) -> None:
    made = make_notarised("notation")
    found = made.verify()
    assert found.check() == made.state.release
    notarised = [each.what for each in found.findings if each.what.endswith(": notation")]
    assert len(notarised) == 3 + 1  # index, two platforms, chart
    start = next(number for number, line in enumerate(found.commands) if line.startswith("export XDG"))
    lines = found.commands[start:]
    assert len(lines) == 3 + len(notarised)
    assert _run(made.lab, lines, tmp_path).returncode == 0
    other = [line.replace("CN=release", "CN=somebody") for line in lines]
    refused = _run(made.lab, other, tmp_path)
    assert refused.returncode != 0
    assert "signature verification failed" in refused.stderr
    assert set(made.refused(identity=notaries.identity("somebody")).values()) == {"wrong-identity"}


def test_without_such_a_signature_it_is_refused(make_notarised: MakeNotarised) -> None:
    refused = make_notarised().refused()
    assert set(refused.values()) == {"unsigned"}
    assert len(refused) == 4
    assert all(what.endswith(": notation") for what in refused)


def test_by_another_authority_it_is_refused(make_notarised: MakeNotarised, tmp_path: Path) -> None:
    other = notaries.make("another")
    made = make_notarised("notation", by=other)
    assert set(made.refused().values()) == {"bad-signature"}
    (tmp_path / "other.pem").write_text(other.pem)
    assert made.refused(roots=(tmp_path / "other.pem",)) == {}


def _run(lab: Lab, lines: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands as they stand, with an empty home."""
    environment = {"PATH": f"{tool('notation', lab.settings).parent}:/usr/bin:/bin", "HOME": str(folder)}
    text = "set -e\n" + "\n".join(lines)
    return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)
