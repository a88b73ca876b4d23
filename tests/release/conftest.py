"""A small project, released for real: built, pushed to a registry of ours, signed, attested; and then broken."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from countersign.console.config import ROOT, Settings, settings_from
from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.oci.access import registry
from countersign.oci.registry import Registry
from countersign.tools.resolver import tool
from release import flow, verifying
from release import version as versions
from release.load import load
from release.made import Folder, Release
from release.model import Project
from release.scan import Databases
from release.signer import ByKey, Signer
from release.trust import ByKey as TrustKey
from release.trust import Trust
from tests.interop.conftest import free_netloc, running
from tests.release import vulnerabilities

PASSWORD = b"of the release tests"
HERE = Path(__file__).parent
BUILDER = "https://git.example/acme/app/builders/test"


def git(folder: Path, *words: str) -> str:
    """Run git, as nobody in particular."""
    who = ["-c", "user.name=A", "-c", "user.email=a@acme.example", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Lab:
    """Where releases are made.

    Attributes:
        settings: with a state folder of its own.
        project: the small project.
        key: signs.
        public: its public half.
        netloc: the registry.
        client: our client of it.
        databases: of known vulnerabilities: none are.
    """

    settings: Settings
    project: Project
    key: keys.PrivateKey
    public: Path
    netloc: str
    client: Registry
    databases: Databases

    def work(self, base: str, version: str = "1.2.3", signer: Signer | None = None) -> flow.Work:
        """Return what stages work with; images go below ``base`` in the registry."""
        chosen = signer or ByKey(self.key)
        settings = replace(self.settings, state=self.settings.state / base)
        return flow.Work(
            settings, self.project, version, f"{self.netloc}/{base}", BUILDER, lambda: chosen, self.databases
        )


@dataclass(frozen=True)
class Made:
    """A release that was made, to be verified or broken.

    Attributes:
        lab: where.
        release: what it consists of.
        folder: its files, a copy of its own.
    """

    lab: Lab
    release: Release
    folder: Path

    def verify(self, trusted: Trust | None = None, version: str = "1.2.3", *, tags: bool = False) -> dict[str, str]:
        """Return what is refused → its reason."""
        trusted = trusted or TrustKey(self.lab.public)
        place = verifying.Place(self.folder)
        found = verifying.verify(self.lab.settings, self.lab.project, version, place, trusted, tags=tags)
        return {each.what: each.reason for each in found.findings if each.reason}

    def details(self) -> dict[str, str]:
        """Return what is refused → what is said of it."""
        place = verifying.Place(self.folder)
        trusted = TrustKey(self.lab.public)
        found = verifying.verify(self.lab.settings, self.lab.project, "1.2.3", place, trusted, tags=False)
        return {each.what: each.detail for each in found.findings if each.reason}

    def file(self, ending: str) -> Path:
        """Return the one file whose name ends so."""
        (found,) = [path for path in self.folder.iterdir() if path.name.endswith(ending)]
        return found


Make = Callable[..., Made]


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The configuration of this checkout, with a state folder of its own."""
    config = Config(project_location=ROOT)
    config.load_project()
    config.load_shell_env()
    return replace(settings_from(Context(config)), state=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def lab(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("app")
    shutil.copytree(HERE / "app", folder, dirs_exist_ok=True)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "begin")
    key = keys.generate()
    _, public = keyfiles.write(tmp_path_factory.mktemp("keys") / "release", key, PASSWORD)
    netloc = free_netloc()
    argv = [str(tool("registry", settings)), "--address", netloc, "--dir", str(tmp_path_factory.mktemp("registry"))]
    with running(argv, netloc):
        known = vulnerabilities.write(tmp_path_factory.mktemp("known"))
        yield Lab(settings, load(folder / "release.yaml"), key, public, netloc, registry(settings), known)


@pytest.fixture(scope="session")
def built(lab: Lab) -> Folder:
    """What the stage build makes, once for all tests."""
    work = lab.work("built")
    flow.run(work, "scan", flow.run(work, "sbom", flow.run(work, "build", flow.start(work))))
    return work.folder


@pytest.fixture(scope="session")
def own(lab: Lab) -> flow.Work:
    """This project, built at the commit that is checked out; it takes a minute or two, once for all tests."""
    project = load(ROOT / "release.yaml")
    base, signer = f"{lab.netloc}/own", ByKey(lab.key)
    work = flow.Work(lab.settings, project, versions.own(project), base, BUILDER, lambda: signer, lab.databases)
    flow.run(work, "build", flow.start(work, fresh=True))
    return work


@pytest.fixture
def make(lab: Lab, built: Folder, request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return what makes a release in repositories of its own, without the stages in ``leave_out``."""
    count = iter(range(100))

    def made(signer: Signer | None = None, leave_out: Sequence[str] = ()) -> Made:
        base = f"t{abs(hash(request.node.nodeid)) % 10**9}-{next(count)}"
        work = lab.work(base, signer=signer)
        work.folder.path.parent.mkdir(parents=True)
        shutil.copytree(built.path, work.folder.path)
        state = flow.start(work)
        for name in ("push", "chart", "sign", "attest", "checksums"):
            state = state.done(work.folder, name, []) if name in leave_out else flow.run(work, name, state)
        copy = tmp_path / base
        shutil.copytree(work.folder.files, copy)
        return Made(lab, state.release, copy)

    return made


def resign(made: Made, signer: Signer | None = None) -> None:
    """Write checksums and signatures over what lies there now, as who holds the key can."""
    from release import checksums

    class Here(Folder):
        @property
        def files(self) -> Path:
            return self.path

    for path in made.folder.glob("SHA256SUMS*"):
        path.unlink()
    checksums.write_sums(made.release, Here(made.folder), signer or ByKey(made.lab.key))
