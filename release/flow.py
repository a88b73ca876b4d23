"""The stages of a release, in order; each can be repeated, and what is done and unchanged is not done again."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from countersign.console import output
from countersign.console.errors import UsageError
from countersign.oci.access import registry
from countersign.oci.reference import parse
from release import attest, build, charts, checksums, exceptions, findings, git, inventory, plain, push, scan
from release import signer as signers
from release.findings import Finding
from release.made import File, Folder, Image, Release, State, read_state, sha256, write
from release.scan import Databases
from signing import sign as signing

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.model import Project
    from release.signer import Signer
    from signing.notary import Notary


@dataclass(frozen=True)
class Work:
    """What every stage works with.

    Attributes:
        settings: the configuration.
        project: what is released.
        version: the version.
        base: what image names begin with.
        builder: who builds, for provenance.
        signer: opens the key, or asks who signs; called by what signs.
        databases: of known vulnerabilities.
        fail_on: the severity that stops it; empty for the project's.
        notary: opens who signs in the format notation.
    """

    settings: Settings
    project: Project
    version: str
    base: str
    builder: str
    signer: Callable[[], Signer]
    databases: Databases = field(default_factory=Databases)
    fail_on: str = ""
    notary: Callable[[], Notary] = signers.nobody

    @property
    def folder(self) -> Folder:
        """Where it comes to be."""
        return Folder(self.settings.state / "release" / f"{self.project.name}-{self.version}")


class Stage(Protocol):
    """One stage: takes what is there, and returns the release and the names of the files that it wrote."""

    def __call__(self, work: Work, release: Release) -> tuple[Release, list[str]]:
        """Do it."""


def _build(work: Work, release: Release) -> tuple[Release, list[str]]:
    commit = git.Commit(release.commit, release.epoch)
    made = build.build(work.settings, work.project, work.version, commit, work.folder, output.progress)
    return made, [each.name for each in made.files]


def _sbom(work: Work, release: Release) -> tuple[Release, list[str]]:
    return release, inventory.write_sboms(work.settings, release, work.folder)


def _scan(work: Work, release: Release) -> tuple[Release, list[str]]:
    wanted = work.project.scan
    if wanted is None:
        output.skipped("release.yaml has no scan")
        return replace(release, scanned=False), []
    today = dt.datetime.now(dt.timezone.utc).date()
    allowed = exceptions.load(wanted.exceptions, today)
    result = scan.look(work.settings, wanted, release, work.folder, work.databases)
    for each in filter(Finding.told, result.findings):
        output.say(str(each))
    quiet = sum(not each.told() for each in result.findings)
    output.say(f"{len(result.findings)} known vulnerabilities, {quiet} of them neither reached nor rated high")
    for name in sorted(set(allowed) - {name for each in result.findings for name in each.names}):
        output.warn(f"{wanted.exceptions.name}: {name} is in no artefact; the exception can go")
    findings.check(result, allowed, work.fail_on or wanted.fail_on, today)
    time = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = findings.predicate(result, allowed, work.fail_on or wanted.fail_on, time)
    write(work.folder.path / "scan.json", json.dumps(document).encode())
    write(work.folder.file(release.sarif), findings.sarif(result, allowed, work.fail_on or wanted.fail_on))
    return replace(release, scanned=True), [release.sarif]


def _push(work: Work, release: Release) -> tuple[Release, list[str]]:
    return push.push(registry(work.settings), release, work.base, work.folder, output.say), []


def _chart(work: Work, release: Release) -> tuple[Release, list[str]]:
    chart = work.project.chart
    kept = [each for each in release.files if each.kind not in ("chart", "manifest")]
    images = [each for each in release.images if each.platforms]
    release = replace(release, files=tuple(kept), images=tuple(images))
    if chart is None:
        output.skipped("there is no chart in release.yaml")
        return release, []
    name, repository = f"{chart.name}-{work.version}.tgz", f"{work.base}/{chart.name}"
    charts.package(work.settings, work.project, chart, release, work.folder.file(name))
    time = git.Commit(release.commit, release.epoch).time
    found = charts.push(registry(work.settings), repository, work.folder.file(name), release, time)
    output.say(f"{repository}@{found.digest}")
    write(work.folder.file(charts.INDEX), charts.index(work.folder.file(name), time))
    pushed = Image(chart.name, found.digest, {}, (work.version,), (), repository)
    kinds = {name: "chart"} | ({plain.name(chart, release): "manifest"} if chart.manifest else {})
    files = [File(each, kind, sha256(work.folder.file(each))) for each, kind in kinds.items()]
    images = [*release.images, pushed]
    return replace(release, files=(*release.files, *files), images=tuple(images)), [*kinds, charts.INDEX]


def _sign(work: Work, release: Release) -> tuple[Release, list[str]]:
    client, signer = registry(work.settings), work.signer()
    formats = [each for each in work.project.formats if each != "notation"]
    notary = work.notary() if work.project.notary else None
    for image in release.images:
        for target in signing.targets(client, parse(f"{image.repository}@{image.digest}")):
            signer.image(client, image.repository, target, formats)
            if notary:
                signers.notarise(client, image.repository, target, notary)
            output.say(f"{image.repository}@{target.digest}")
    return release, []


def _attest(work: Work, release: Release) -> tuple[Release, list[str]]:
    signer = work.signer()
    files = attest.attest_files(work.settings, release, work.folder, signer, work.builder)
    client = registry(work.settings)
    images = attest.attest_images(work.settings, client, release, work.folder, signer, work.builder, output.say)
    return release, [*files, *images]


def _checksums(work: Work, release: Release) -> tuple[Release, list[str]]:
    return release, checksums.write_sums(release, work.folder, work.signer())


STAGES: Mapping[str, Stage] = {
    "build": _build,
    "sbom": _sbom,
    "scan": _scan,
    "push": _push,
    "chart": _chart,
    "sign": _sign,
    "attest": _attest,
    "checksums": _checksums,
}
"""In order: each needs those before it."""


def start(work: Work, *, fresh: bool = False) -> State:
    """Return the state of a release that is being made, or a new one at the commit that is checked out.

    Raises:
        UsageError: what was begun is of another commit.
    """
    commit = git.head(work.project.root)
    state = None if fresh else read_state(work.folder)
    if state is None:
        return State(Release(work.project.name, work.version, work.project.source, commit.id, commit.epoch))
    if state.release.commit != commit.id:
        raise UsageError(
            f"was begun at commit {state.release.commit[:12]}", where=str(work.folder.path),
            expected=f"{commit.id[:12]}, which is checked out", do="run release.build to begin again",
        )  # fmt: skip
    return state


def due(work: Work, state: State) -> list[str]:
    """Return the stages that are still to be done; what follows one that is to be done is too."""
    names = list(STAGES)
    moved = any(each.repository != f"{work.base}/{each.name}" for each in state.release.images)
    for number, name in enumerate(names):
        if not state.holds(work.folder, name) or (moved and name == "push"):
            return names[number:]
    return []


def run(work: Work, name: str, state: State) -> State:
    """Do one stage, whether it was done before or not.

    Raises:
        UsageError: a stage before it is not done, or another run makes the same release.
    """
    names = list(STAGES)
    for before in names[: names.index(name)]:
        if not state.holds(work.folder, before):
            raise UsageError(f"release.{before} is not done", where=work.folder.path.name, do=f"run release.{before}")
    with _alone(work.folder):
        work.folder.path.mkdir(exist_ok=True)
        if name == "build":
            shutil.rmtree(work.folder.path)
            work.folder.path.mkdir()
            state = replace(state, stages={})
        release, wrote = STAGES[name](work, state.release)
        kept = {each: state.stages[each] for each in names[: names.index(name)] if each in state.stages}
        return replace(state, stages=kept).done(work.folder, name, wrote, release)


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Keep other runs from a release while a stage of it is done.

    Raises:
        UsageError: one is doing so.
    """
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with folder.path.with_name(f".{folder.path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where, do = folder.path.name, "wait for it, or stop it"
            raise UsageError("is being made by another run", where=where, do=do) from None
        yield
