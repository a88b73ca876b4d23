"""Tasks: the stages that make a release, each alone and all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task
from release import opening, showing
from release.options import JSON, PROJECT, VERSION

if TYPE_CHECKING:
    from invoke.context import Context

    from release.flow import Work
    from release.made import State

_REGISTRY = "what image names begin with (default: registry of release.yaml)"
_KEY = (
    "private key, a file or pkcs11:…, hashivault://KEY and the like (default: beside the public key of release.yaml; "
    "password: COSIGN_PASSWORD or KEY.password)"
)
_IDENTITY = "sign with the token in this file (default, where release.yaml has an identity: the one that CI offers)"
_SIGNING = {"version": VERSION, "key": _KEY, "identity": _IDENTITY, "project": PROJECT, "json": JSON}


@task(help={"version": VERSION, "project": PROJECT, "json": JSON})
def prepare(_: Context, version: str = "", project: str = "", json: bool = False) -> None:
    """Check what has to hold before a release: version, clean tree, no such tag yet, a section of the changelog.

    Example: ./inv release.prepare --version 1.2.3
    """
    from countersign.console import output
    from release import version as versions

    found = opening.project(project)
    wanted = version or versions.own(found)
    commit = versions.prepare(found, wanted)
    output.done(f"{found.name} {wanted} can be made of commit {commit.id[:12]} ({commit.time})")
    if json:
        document = {"project": found.name, "release": wanted, "commit": commit.id, "time": commit.time}
        output.emit_json({"version": "countersign.release-prepared/v1", **document})


@task(help={"version": VERSION, "project": PROJECT, "json": JSON})
def build(context: Context, version: str = "", project: str = "", json: bool = False) -> None:
    """Build programs, images, packages and source archive of the commit that is checked out, and of nothing else.

    Example: ./inv release.build
    """
    from release import flow

    work = opening.work(context, version, project)
    _shown(work, flow.run(work, "build", flow.start(work, fresh=True)), json=json)


@task(help={"version": VERSION, "project": PROJECT, "json": JSON})
def sbom(context: Context, version: str = "", project: str = "", json: bool = False) -> None:
    """Write SBOMs of the programs, in SPDX 2.3 and CycloneDX 1.6.

    Example: ./inv release.sbom
    """
    _stage(context, "sbom", version, project, json=json)


@task(
    help={
        "version": VERSION,
        "database": "Go vulnerability database: a URL, or a folder with a copy (default: GOVULNDB, else https://vuln.go.dev)",
        "grype-database": "a folder, an archive, or a mirror's URL (default: what GRYPE_DB_… says, else grype's own)",
        "fail-on": "from which severity on it stops: critical, high, medium, … (default: failOn of release.yaml)",
        "project": PROJECT,
        "json": JSON,
    }
)
def scan(
    context: Context,
    version: str = "",
    database: str = "",
    grype_database: str = "",
    fail_on: str = "",
    project: str = "",
    json: bool = False,
) -> None:
    """Look for known vulnerabilities in all artefacts; exit code 1 for one that counts and that nothing excepts.

    Example: ./inv release.scan --database /mnt/vulndb --grype-database /mnt/grype --fail-on high
    """
    from dataclasses import replace

    from countersign.console.errors import UsageError
    from release import flow
    from release.findings import SEVERITIES

    if fail_on and fail_on not in SEVERITIES:
        raise UsageError(f"got {fail_on!r}", where="--fail-on", expected=" or ".join(reversed(SEVERITIES)))
    work = opening.work(context, version, project)
    databases = replace(work.databases, go=database or work.databases.go, grype=grype_database)
    work = replace(work, databases=databases, fail_on=fail_on)
    _shown(work, flow.run(work, "scan", flow.start(work)), json=json)


@task(help={"version": VERSION, "registry": _REGISTRY, "project": PROJECT, "json": JSON})
def push(context: Context, version: str = "", registry: str = "", project: str = "", json: bool = False) -> None:
    """Push the images by digest; no tag is touched.

    Example: ./inv release.push --registry registry.example/team
    """
    _stage(context, "push", version, project, registry=registry, json=json)


@task(help={"version": VERSION, "registry": _REGISTRY, "project": PROJECT, "json": JSON})
def chart(context: Context, version: str = "", registry: str = "", project: str = "", json: bool = False) -> None:
    """Have Helm lint and render the chart, write its archive, and push it by digest.

    Example: ./inv release.chart --registry registry.example/team
    """
    _stage(context, "chart", version, project, registry=registry, json=json)


@task(help=_SIGNING)
def sign(
    context: Context, version: str = "", key: str = "", identity: str = "", project: str = "", json: bool = False
) -> None:
    """Sign the images, index and platforms, by digest.

    Example: ./inv release.sign --key release.key
    """
    _stage(context, "sign", version, project, key=key, identity=identity, json=json)


@task(help=_SIGNING)
def attest(
    context: Context, version: str = "", key: str = "", identity: str = "", project: str = "", json: bool = False
) -> None:
    """Attest SBOMs and SLSA provenance of all programs, packages and images.

    Example: ./inv release.attest --key release.key
    """
    _stage(context, "attest", version, project, key=key, identity=identity, json=json)


@task(help=_SIGNING)
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
        "version": VERSION,
        "registry": _REGISTRY,
        "key": _KEY,
        "project": PROJECT,
        "plan": "say what would be done, and do nothing",
        "json": JSON,
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

    work = opening.work(context, version, project, registry=registry, key=key)
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
    showing.verified(context, work.project, work.version, "", _public(key), tags=False, json=json)


def _stage(
    context: Context,
    name: str,
    version: str,
    project: str,
    *,
    registry: str = "",
    key: str = "",
    identity: str = "",
    json: bool,
) -> None:
    from release import flow

    work = opening.work(context, version, project, registry=registry, key=key, identity=identity)
    _shown(work, flow.run(work, name, flow.start(work)), json=json)


def _public(key: str) -> str:
    """Return the public key beside a private one; empty for the project's own, also of a key that is in no file."""
    from countersign.keys.source import is_remote

    return str(Path(key).expanduser().with_suffix(".pub")) if key and not is_remote(key) else ""


def _shown(work: Work, state: State, *, json: bool) -> None:
    from countersign.console import output

    for file in state.release.files:
        output.done(f"{file.name} sha256:{file.sha256}")
    for image in state.release.images:
        output.done(f"image {image.repository or image.name}@{image.digest}")
    output.say(f"in {work.folder.files}")
    if json:
        output.emit_json({**state.release.as_json(), "folder": str(work.folder.files)})
