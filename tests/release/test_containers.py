"""Another project: a service with a Containerfile, a chart and two architectures; and images of a layout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import MissingError, UsageError
from countersign.oci.build import write_layout
from countersign.tools.resolver import tool
from release import containers, flow, sbom, scan, verifying
from release.load import ReleaseInvalid, load
from release.made import State
from release.model import Project
from release.signer import ByKey
from release.trust import ByKey as TrustKey
from tests.release import vulnerabilities
from tests.release.conftest import BUILDER, HERE, Lab, git
from tests.release.vulnerabilities import Flaw

Begin = Callable[..., flow.Work]
LAYOUT = ("{name: service, containerfile: Containerfile}", "{name: service, layout: dist}")
ARCHITECTURES = ("amd64", "arm64")
LABELS = ("title", "version", "revision", "source", "created")
PLATFORMS = tuple(f"linux/{each}" for each in ARCHITECTURES)


@pytest.fixture
def begin(lab: Lab, tmp_path: Path) -> Begin:
    def begun(old: str = "", new: str = "") -> flow.Work:
        folder = tmp_path / "service"
        shutil.copytree(HERE / "service", folder)
        path = folder / "release.yaml"
        if old:
            path.write_text(path.read_text().replace(old, new))
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "begin")
        settings = replace(lab.settings, state=tmp_path / "state")
        base = f"{lab.netloc}/{tmp_path.name.replace('_', '-').strip('-')}"
        signer = ByKey(lab.key)
        return flow.Work(settings, load(path), "2.0.0", base, BUILDER, lambda: signer, lab.databases)

    return begun


def made(work: flow.Work) -> State:
    state = flow.start(work, fresh=True)
    for name in flow.STAGES:
        state = flow.run(work, name, state)
    return state


def refused(lab: Lab, work: flow.Work) -> dict[str, str]:
    place = verifying.Place(work.folder.files)
    found = verifying.verify(lab.settings, work.project, "2.0.0", place, TrustKey(lab.public), tags=False)
    return {each.what: each.reason for each in found.findings if each.reason}


def blob(work: flow.Work, digest: str) -> bytes:
    return (work.folder.layout("service") / "blobs" / digest.replace(":", "/")).read_bytes()


def layout(into: Path, platforms: tuple[str, ...] = PLATFORMS) -> Path:
    """Write a layout as another tool would: an index of a small program's images."""
    into.mkdir(parents=True)
    program = into.parent / "program"
    program.write_text("#!/bin/sh\n")
    write_layout(into, "program", dict.fromkeys(platforms, program))
    return into


def test_a_containerfile_is_built_scanned_and_released(
    lab: Lab, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        tool("buildah", lab.settings)
    except MissingError as missing:
        pytest.skip(str(missing))
    work = begin()
    state = made(work)
    image, chart = state.release.images
    assert set(image.platforms) == set(PLATFORMS)
    assert chart.name == "service-chart"
    assert refused(lab, work) == {}
    for digest in image.platforms.values():
        config = json.loads(blob(work, json.loads(blob(work, digest))["config"]["digest"]))
        assert not config.get("history")
        assert set(config["config"]["Labels"]) == {f"org.opencontainers.image.{each}" for each in LABELS}
    inventory = json.loads(work.folder.file("service-2.0.0-image-linux-amd64.spdx.json").read_bytes())
    assert {"acme-data", "stdlib"} <= {each["name"] for each in inventory["packages"]}
    again = replace(work, settings=replace(work.settings, state=tmp_path / "again"))
    monkeypatch.setenv("TMPDIR", str(_new(tmp_path / "elsewhere")))
    before = os.umask(0o077)
    try:
        rebuilt = flow.run(again, "build", flow.start(again, fresh=True)).release.images[0]
    finally:
        os.umask(before)
    assert (rebuilt.digest, dict(rebuilt.platforms)) == (image.digest, dict(image.platforms))
    known = vulnerabilities.write(tmp_path / "known", flaws={"GHSA-aaaa-bbbb-cccc": Flaw()})
    assert work.project.scan is not None
    found = scan.look(work.settings, work.project.scan, state.release, work.folder, known)
    parts = ("service-2.0.0", "service-2.0.0-image")
    assert {each.program for each in found.findings} == {
        f"{part}-linux-{arch}" for part in parts for arch in ARCHITECTURES
    }


def test_without_a_buildah_that_serves_it_is_said_what_else_can_be_done(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begin()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingError, match=r"there is no buildah; apt-get install buildah; or .*layout: PATH"):
        containers.program(work.settings, work.project)
    old = _new(tmp_path / "bin") / "buildah"
    old.write_text("#!/bin/sh\necho buildah version 1.23.1\n")
    old.chmod(0o755)
    with pytest.raises(MissingError, match=r"does not serve; expected 1\.28\.0 to below 2; apt-get install buildah"):
        containers.program(work.settings, work.project)
    old.write_text("#!/bin/sh\necho buildah version 1.28.2\n")
    assert containers.program(work.settings, work.project) == old


def test_a_layout_that_is_there_is_released(lab: Lab, begin: Begin) -> None:
    work = begin(*LAYOUT)
    layout(work.project.root / "dist")
    state = made(work)
    assert set(state.release.images[0].platforms) == set(PLATFORMS)
    assert refused(lab, work) == {}
    for form, ending in {"spdx": ".spdx.json", "cyclonedx": ".cdx.json"}.items():
        path = work.folder.file(f"service-2.0.0-image-linux-arm64{ending}")
        document = sbom.check(form, path.read_bytes(), path.name)
        assert f"sha256:{sbom.about(form, document)}" == state.release.images[0].platforms["linux/arm64"]
        before = path.read_bytes()
        flow.run(work, "attest", state)
        assert path.read_bytes() == before
    path = work.folder.file(state.release.scan)
    path.unlink()
    scans = {what: reason for what, reason in refused(lab, work).items() if what.endswith(": scan")}
    assert scans == dict.fromkeys(
        [f"service-2.0.0-image-linux-{each}: scan" for each in ("amd64", "arm64")]
        + [f"service-2.0.0-linux-{each}: scan" for each in ("amd64", "arm64")],
        "unattested",
    )


@pytest.fixture
def project(begin: Begin) -> Project:
    return begin(*LAYOUT).project


def test_a_layout_that_lists_manifests_gets_an_index(project: Project, tmp_path: Path) -> None:
    there = layout(tmp_path / "there")
    index = json.loads((there / "index.json").read_bytes())
    whole = containers.take(there, project, _new(tmp_path / "whole"))
    top = index["manifests"][0]["digest"].replace(":", "/")
    flat = {**index, "manifests": json.loads((there / "blobs" / top).read_bytes())["manifests"]}
    (there / "index.json").write_text(json.dumps(flat))
    taken = containers.take(there, project, _new(tmp_path / "flat"))
    assert dict(taken[1]) == dict(whole[1])
    for each in flat["manifests"]:
        del each["platform"]
    (there / "index.json").write_text(json.dumps({**flat, "manifests": flat["manifests"][::-1]}))
    assert containers.take(there, project, _new(tmp_path / "bare"))[0] == taken[0]


def test_a_layout_for_other_platforms_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for linux/amd64; expected each of linux/amd64, linux/arm64 once"):
        containers.take(layout(tmp_path / "there", PLATFORMS[:1]), project, _new(tmp_path / "into"))


@pytest.mark.parametrize("what", ["altered", "missing", "a link", "no index", "no JSON", "leads elsewhere"])
def test_a_layout_that_is_not_whole_is_refused(project: Project, tmp_path: Path, what: str) -> None:
    there = layout(tmp_path / "there")
    blob = max((there / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    containers.take(there, project, _new(tmp_path / "good"))
    if what == "altered":
        blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    elif what == "missing":
        blob.unlink()
    elif what == "a link":
        blob.rename(tmp_path / "elsewhere")
        blob.symlink_to(tmp_path / "elsewhere")
    elif what == "no index":
        (there / "index.json").unlink()
    elif what == "no JSON":
        (there / "index.json").write_text("{")
    else:
        text = (there / "index.json").read_text()
        digest = json.loads(text)["manifests"][0]["digest"]
        (there / "index.json").write_text(text.replace(digest, "sha256:../../../../etc/passwd"))
    says = {
        "altered": "the content is not that of its name", "missing": "the layout lacks this blob",
        "a link": "the layout lacks this blob", "no index": "is no OCI layout: index.json: No such file",
        "no JSON": "is no OCI layout", "leads elsewhere": "is no OCI layout",
    }  # fmt: skip
    with pytest.raises(UsageError, match=says[what]):
        containers.take(there, project, _new(tmp_path / "bad"))


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("{name: service}", "got nothing to make it of; expected one of programs, containerfile, layout"),
        ("{name: service, programs: [service], layout: dist}", "got several to make it of"),
        ("{name: service, containerfile: Nowhere}", "there is no 'Nowhere'"),
        ("{name: service, layout: ../dist}", "expected a path below service/"),
        ("{name: service, programs: [service], context: .}", "expected containerfile too"),
    ],
)
def test_an_image_is_made_in_one_way(begin: Begin, new: str, says: str) -> None:
    with pytest.raises(ReleaseInvalid) as caught:
        begin(LAYOUT[0], new)
    assert says in str(caught.value)


def test_only_grype_reads_such_an_image(begin: Begin) -> None:
    with pytest.raises(ReleaseInvalid, match="lacks grype, which alone reads an image"):
        begin("exceptions: vulnerable.yaml", "exceptions: vulnerable.yaml, scanners: [govulncheck]")


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
