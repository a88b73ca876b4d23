"""Tasks: make a release, and verify one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.console.config import Settings
    from release.flow import Work
    from release.model import Project
    from release.signer import Signer
    from release.verifying import Verified

_VERSION = "the version, as 1.2.3 (default: the project's own)"
_PROJECT = "the project's release.yaml (default: this repository's)"
_REGISTRY = "what image names begin with (default: registry of release.yaml)"
_KEY = "private key (default: beside the public key of release.yaml; password: COSIGN_PASSWORD or KEY.password)"
_IDENTITY = "sign with the token in this file (default, where release.yaml has an identity: the one that CI offers)"
_JSON = "one JSON document on stdout"


@task(help={"version": _VERSION, "project": _PROJECT, "json": _JSON})
def prepare(context: Context, version: str = "", project: str = "", json: bool = False) -> None:
    """Check what has to hold before a release: version, clean tree, no such tag yet, a section of the changelog.

    Example: ./inv release.prepare --version 1.2.3
    """
    from countersign.console import output
    from release import version as versions

    found = _project(context, project)
    wanted = version or versions.own(found)
    commit = versions.prepare(found, wanted)
    output.done(f"{found.name} {wanted} can be made of commit {commit.id[:12]} ({commit.time})")
    if json:
        document = {"project": found.name, "release": wanted, "commit": commit.id, "time": commit.time}
        output.emit_json({"version": "countersign.release-prepared/v1", **document})


@task(help={"version": _VERSION, "project": _PROJECT, "json": _JSON})
def build(context: Context, version: str = "", project: str = "", json: bool = False) -> None:
    """Build programs, images, packages and source archive of the commit that is checked out, and of nothing else.

    Example: ./inv release.build
    """
    from release import flow

    work = _work(context, version, project)
    _shown(work, flow.run(work, "build", flow.start(work, fresh=True)), json=json)


@task(help={"version": _VERSION, "project": _PROJECT, "json": _JSON})
def sbom(context: Context, version: str = "", project: str = "", json: bool = False) -> None:
    """Write SBOMs of the programs, in SPDX 2.3 and CycloneDX 1.6.

    Example: ./inv release.sbom
    """
    _stage(context, "sbom", version, project, json=json)


@task(
    help={
        "version": _VERSION,
        "database": "Go vulnerability database: a URL, or a folder with a copy (default: GOVULNDB, else https://vuln.go.dev)",
        "project": _PROJECT,
        "json": _JSON,
    }
)
def scan(context: Context, version: str = "", database: str = "", project: str = "", json: bool = False) -> None:
    """Look for known vulnerabilities in the programs; exit code 1 for one that the project does not except.

    Example: ./inv release.scan --database /mnt/vulndb
    """
    _stage(context, "scan", version, project, database=database, json=json)


@task(help={"version": _VERSION, "registry": _REGISTRY, "project": _PROJECT, "json": _JSON})
def push(context: Context, version: str = "", registry: str = "", project: str = "", json: bool = False) -> None:
    """Push the images by digest; no tag is touched.

    Example: ./inv release.push --registry registry.example/team
    """
    _stage(context, "push", version, project, registry=registry, json=json)


@task(help={"version": _VERSION, "registry": _REGISTRY, "project": _PROJECT, "json": _JSON})
def chart(context: Context, version: str = "", registry: str = "", project: str = "", json: bool = False) -> None:
    """Have Helm lint and render the chart, write its archive, and push it by digest.

    Example: ./inv release.chart --registry registry.example/team
    """
    _stage(context, "chart", version, project, registry=registry, json=json)


@task(help={"version": _VERSION, "key": _KEY, "identity": _IDENTITY, "project": _PROJECT, "json": _JSON})
def sign(
    context: Context, version: str = "", key: str = "", identity: str = "", project: str = "", json: bool = False
) -> None:
    """Sign the images, index and platforms, by digest.

    Example: ./inv release.sign --key release.key
    """
    _stage(context, "sign", version, project, key=key, identity=identity, json=json)


@task(help={"version": _VERSION, "key": _KEY, "identity": _IDENTITY, "project": _PROJECT, "json": _JSON})
def attest(
    context: Context, version: str = "", key: str = "", identity: str = "", project: str = "", json: bool = False
) -> None:
    """Attest SBOMs and SLSA provenance of all programs, packages and images.

    Example: ./inv release.attest --key release.key
    """
    _stage(context, "attest", version, project, key=key, identity=identity, json=json)


@task(help={"version": _VERSION, "key": _KEY, "identity": _IDENTITY, "project": _PROJECT, "json": _JSON})
def checksums(
    context: Context, version: str = "", key: str = "", identity: str = "", project: str = "", json: bool = False
) -> None:
    """Write SHA256SUMS over everything, signed, and a signature of each file.

    Example: ./inv release.checksums --key release.key
    """
    _stage(context, "checksums", version, project, key=key, identity=identity, json=json)


@task(
    name="all",
    help={
        "version": _VERSION,
        "registry": _REGISTRY,
        "key": _KEY,
        "project": _PROJECT,
        "plan": "say what would be done, and do nothing",
        "json": _JSON,
    },
)
def all_(
    context: Context,
    version: str = "",
    registry: str = "",
    key: str = "",
    project: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Make a whole release and verify it; what is done and unchanged is not done again. No tag is touched.

    Example: ./inv release.all --registry registry.example/team
    """
    from countersign.console import output
    from release import flow
    from release import version as versions

    work = _work(context, version, project, registry=registry, key=key)
    versions.prepare(work.project, work.version)
    state = flow.start(work)
    due = flow.due(work, state)
    for name in flow.STAGES:
        if name not in due:
            output.skipped(f"release.{name}")
        elif plan:
            output.say(f"would: release.{name}")
    if plan:
        output.say("would: release.verify")
        return
    for name in due:
        output.say(f"release.{name}")
        state = flow.run(work, name, state)
    _verified(context, work.project, work.version, "", _public(key), tags=False, json=json)


@task(
    help={
        "version": _VERSION,
        "folder": "the release's files (default: where release.build makes them)",
        "key": "public key that has to have signed (default: key or identity of release.yaml)",
        "project": _PROJECT,
        "unpublished": "tags need not be there yet",
        "json": _JSON,
    }
)
def verify(
    context: Context,
    version: str = "",
    folder: str = "",
    key: str = "",
    project: str = "",
    unpublished: bool = False,
    json: bool = False,
) -> None:
    """Verify a release as a stranger would: files, signatures, attestations, checksums, images, tags.

    Exit code 1 if any is refused. The plain commands that do the same are printed.

    Example: ./inv release.verify --folder ~/Downloads/countersign-1.2.3 --key release.pub
    """
    _verified(context, _project(context, project), version, folder, key, tags=not unpublished, json=json)


@task(
    help={
        "version": _VERSION,
        "github": "also a release on GitHub, with GITHUB_TOKEN (--no-github: only the images' tags)",
        "key": "public key that has to have signed (default: key or identity of release.yaml)",
        "project": _PROJECT,
        "plan": "verify it and say what would be done, and do nothing",
        "json": _JSON,
    }
)
def publish(
    context: Context,
    version: str = "",
    github: bool = True,
    key: str = "",
    project: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Publish a release, if it verifies: draft, files, tags, then all at once; what fails leaves nothing behind.

    Example: ./inv release.publish --version 1.2.3
    """
    import os

    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.oci.access import registry
    from countersign.oci.proxy import from_environment
    from release import notes, verifying
    from release import publish as publishing
    from release.github import of

    found, settings = _project(context, project), settings_from(context)
    environ = os.environ
    api = environ.get("GITHUB_API_URL") or "https://api.github.com"
    target = of(found.source, environ.get("GITHUB_TOKEN", ""), api, from_environment(environ)) if github else None
    trusted, place = verifying.trusted(found, key), verifying.place(settings, found, version, "")
    verified = verifying.verify(settings, found, version, place, trusted, tags=False)
    _say(verified)
    release = verified.check()
    done: list[str] = []

    def tell(line: str) -> None:
        done.append(line)
        output.done(line)

    def again() -> None:
        verifying.verify(settings, found, version, place, trusted, tags=True).check()

    if plan:
        for line in publishing.plan(release, target):
            output.say(f"would: {line}")
    else:
        files = sorted(place.files.iterdir())
        text = notes.write(found, release, trusted)
        publishing.publish(registry(settings), release, files, text, target, again, tell)
    if json:
        output.emit_json({"version": "countersign.release-published/v1", "plan": plan, "done": done})


def _stage(
    context: Context,
    name: str,
    version: str,
    project: str,
    *,
    registry: str = "",
    key: str = "",
    identity: str = "",
    database: str = "",
    json: bool,
) -> None:
    from dataclasses import replace

    from release import flow

    work = _work(context, version, project, registry=registry, key=key, identity=identity)
    if database:
        work = replace(work, database=database)
    _shown(work, flow.run(work, name, flow.start(work)), json=json)


def _project(context: Context, path: str) -> Project:
    from countersign.console import output
    from countersign.console.config import ROOT
    from release.load import FILE, ReleaseInvalid, load

    del context
    try:
        return load(Path(path).expanduser() if path else ROOT / FILE)
    except ReleaseInvalid as err:
        for each in err.problems[1:]:
            output.say(f"error: {each}")
        raise


def _work(
    context: Context, version: str, project: str, *, registry: str = "", key: str = "", identity: str = ""
) -> Work:
    import os

    from countersign.console.config import settings_from
    from release import flow
    from release import scan as scanning
    from release import version as versions

    found = _project(context, project)
    wanted = versions.check(version) if version else versions.own(found)
    workflow = os.environ.get("GITHUB_WORKFLOW_REF", "")
    builder = f"https://github.com/{workflow}" if workflow else f"{found.source}/built-by-hand"
    base = registry.rstrip("/") or found.registry
    database = os.environ.get("GOVULNDB") or scanning.DATABASE
    settings = settings_from(context)
    return flow.Work(settings, found, wanted, base, builder, lambda: _signer(settings, found, key, identity), database)


def _signer(settings: Settings, project: Project, key: str, identity: str) -> Signer:
    import os

    from countersign.console.errors import UsageError
    from countersign.keys import password, sealed
    from countersign.keys.pair import load_private
    from release.signer import ByIdentity, ByKey

    if key and identity:
        raise UsageError("got both", where="--key, --identity", expected="one of them")
    if identity or (project.identity and not key):
        from signing import identity as identities

        config = identities.open_config(settings.signing.trust_config, offline=settings.offline)
        token = identities.token(config, Path(identity).expanduser() if identity else None)
        return ByIdentity(identities.ByIdentity(config, token))
    path = Path(key).expanduser() if key else (project.key or Path()).with_suffix(".key")
    if not sealed.is_sealed(sealed.read(path)):
        return ByKey(load_private(path))
    beside, given = path.with_suffix(".password"), os.environ.get("COSIGN_PASSWORD")
    file = beside if given is None and beside.is_file() else None
    return ByKey(load_private(path, password.choose(file, given, str(path))))


def _public(key: str) -> str:
    """Return the public key beside a private one; empty for the project's own."""
    return str(Path(key).expanduser().with_suffix(".pub")) if key else ""


def _verified(
    context: Context, project: Project, version: str, folder: str, key: str, *, tags: bool, json: bool
) -> None:
    from countersign.console import output
    from countersign.console.config import settings_from
    from release import verifying

    settings = settings_from(context)
    place = verifying.place(settings, project, version, folder)
    found = verifying.verify(settings, project, version, place, verifying.trusted(project, key), tags=tags)
    _say(found)
    if found.commands:
        output.say("the same by hand:")
        for line in found.commands:
            output.say(f"  {line}")
    if json:
        output.emit_json({"version": "countersign.release-verified/v1", **found.as_json()})
    found.check()


def _say(found: Verified) -> None:
    from countersign.console import output

    for each in found.findings:
        if each.reason:
            output.failed(f"{each.what}: {each.reason}: {each.detail}")
        else:
            output.done(each.what)


def _shown(work: Work, state: object, *, json: bool) -> None:
    from countersign.console import output
    from release.made import State

    if not isinstance(state, State):
        raise TypeError
    for file in state.release.files:
        output.done(f"{file.name} sha256:{file.sha256}")
    for image in state.release.images:
        output.done(f"image {image.repository or image.name}@{image.digest}")
    output.say(f"in {work.folder.files}")
    if json:
        output.emit_json({**state.release.as_json(), "folder": str(work.folder.files)})
