"""A Helm chart of a release: it names the release's image by digest, renders, and is pushed as Helm pushes it (OCI)."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from countersign.console import output
from countersign.console.errors import InfrastructureError, UsageError
from countersign.oci import descriptor
from countersign.oci.descriptor import OCI_MANIFEST, Descriptor
from countersign.tools.resolver import tool
from release import git, plain, tarball

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.oci.registry import Registry
    from release.made import Image, Release
    from release.model import Chart, Project

INDEX = "index.yaml"
_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

NEWEST = 3
"""How many minor versions a chart is held against where release.yaml names none."""
_FOLDER = re.compile(r"v([0-9]+)\.([0-9]+)\.0-local-strict")
_FILE = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
_FRAME = re.compile(r"^problem validating schema\..*?#' - ")
"""What kubeconform says before what is wrong; it names a file of ours."""
_SHOWN = 3
_SECONDS = 120


def metadata(folder: Path) -> Mapping[str, Any]:
    """Return what Chart.yaml says.

    Raises:
        UsageError: it is not a chart's.
    """
    path = folder / "Chart.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        good = found["apiVersion"] == "v2" and _NAME.fullmatch(found["name"]) and isinstance(found["version"], str)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        good = False
    if not good:
        where = f"{folder.name}/Chart.yaml"
        raise UsageError("is missing or no chart's", where=where, expected="apiVersion: v2, name and version")
    return dict(found)


def package(settings: Settings, project: Project, chart: Chart, release: Release, into: Path) -> None:
    """Write a chart's archive from the commit's own files, after Helm has linted and rendered it.

    Where it is released as plain YAML too, that is written beside it (`release.plain`).

    Raises:
        UsageError: its version is not the release's, or its values have no place for the image.
        InfrastructureError: Helm refuses it.
    """
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=into.parent) as scratch:
        tar = Path(scratch, "source.tar")
        git.archive(project.root, git.Commit(release.commit, release.epoch), "source", tar)
        with tarfile.open(tar) as opened:
            opened.extractall(scratch, filter="data")
        folder = Path(scratch, "source", chart.folder)
        said = metadata(folder)
        for key in ("version", "appVersion"):
            if said.get(key) != release.release:
                where = f"{chart.folder}/Chart.yaml: {key}"
                raise UsageError(
                    f"is {said.get(key)!r}", where=where, expected=release.release, do="change and commit it"
                )
        if chart.image:
            image = next(each for each in release.images if each.name == chart.image)
            _name_image(folder / "values.yaml", image)
        values = ["--values", str(Path(scratch, "source", chart.values))] if chart.values else []
        _try(settings, chart, folder, values)
        into.write_bytes(_archived(folder, chart.name, release.epoch))
        if chart.manifest:
            words = ["--namespace", plain.namespace(chart), "--include-crds", "--no-hooks", *values]
            rendered = _helm(settings, chart, "template", chart.name, str(folder), *words)
            into.with_name(plain.name(chart, release)).write_bytes(plain.manifest(chart, release, rendered))


def push(registry: Registry, name: str, archive: Path, release: Release, time: str) -> Descriptor:
    """Push a chart by digest, as ``helm push`` writes it; return its manifest's descriptor."""
    content = archive.read_bytes()
    said = _said(content)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": registry.put_blob(name, descriptor.encode(said), _CONFIG).as_json(),
        "layers": [registry.put_blob(name, content, _LAYER).as_json()],
        "annotations": {
            "org.opencontainers.image.created": time,
            "org.opencontainers.image.description": str(said.get("description", "")),
            "org.opencontainers.image.revision": release.commit,
            "org.opencontainers.image.source": release.source,
            "org.opencontainers.image.title": said["name"],
            "org.opencontainers.image.version": said["version"],
        },
    }
    encoded = descriptor.encode(manifest)
    return registry.put_manifest(name, descriptor.of(encoded, OCI_MANIFEST).digest, encoded, OCI_MANIFEST)


def index(archive: Path, time: str) -> bytes:
    """Return the index that makes a folder with a chart's archive a Helm repository, as ``helm repo index`` does.

    Written here because helm's has the current time: equal archives give equal bytes.

    Args:
        archive: the chart, which the index names beside itself.
        time: the commit's (RFC 3339).
    """
    content = archive.read_bytes()
    said = _said(content)
    entry = {**said, "created": time, "digest": hashlib.sha256(content).hexdigest(), "urls": [archive.name]}
    document = {"apiVersion": "v1", "entries": {said["name"]: [entry]}, "generated": time}
    return yaml.safe_dump(document, sort_keys=True).encode()


def _said(archive: bytes) -> dict[str, Any]:
    """Return Chart.yaml of an archive of ours, where it is the first file."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        first = opened.extractfile(opened.getmembers()[0])
        return dict(yaml.safe_load(first.read())) if first else {}


def _name_image(values: Path, image: Image) -> None:
    """Put the image's repository and digest into ``image:`` of a chart's values, whose comments stay."""
    text = values.read_text(encoding="utf-8")
    for key, value in (("repository", image.repository), ("digest", image.digest)):
        pattern = rf'(^image:\n(?:^[ #].*\n|^\n)*?^  {key}:) (?:""|\'\')'
        found = re.search(pattern, text, flags=re.MULTILINE)
        if found is None:
            raise UsageError(f"has no empty image.{key}", where="values.yaml", expected=f'image: {{{key}: ""}}')
        text = f"{text[: found.start()]}{found[1]} {json.dumps(value)}{text[found.end() :]}"
    values.write_text(text, encoding="utf-8")


def _try(settings: Settings, chart: Chart, folder: Path, more: Sequence[str]) -> None:
    """Have Helm lint a chart, and render it for each version of Kubernetes, which has to take what comes out."""
    _helm(settings, chart, "lint", "--strict", str(folder), *more)
    for version, schemas in schemas_of(settings, chart.kubernetes).items():
        words = ["--kube-version", f"{version}.0", "--include-crds", *more]
        rendered = _helm(settings, chart, "template", chart.name, str(folder), *words)
        others = against_schemas(settings, version, schemas, rendered, chart.folder)
        left = f"; not looked at: {', '.join(others)}" if others else ""
        output.say(f"{chart.name} is what Kubernetes {version} takes{left}")


def _helm(settings: Settings, chart: Chart, *words: str) -> bytes:
    """Return what Helm writes.

    Raises:
        InfrastructureError: it refuses the chart.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": "/usr/bin:/bin", "HOME": home}
        ended = subprocess.run([tool("helm", settings), *words], env=environment, capture_output=True, check=False)
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).decode(errors="replace").split())
        raise InfrastructureError(f"helm {words[0]} refuses it: {said}", where=chart.folder)
    return ended.stdout


def _archived(folder: Path, name: str, epoch: int) -> bytes:
    """Return the archive: Chart.yaml first, without what .helmignore names; all is root's, and of the commit's time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    ignore = folder / ".helmignore"
    left_out = [*(ignore.read_text(encoding="utf-8").split() if ignore.is_file() else ()), ".*"]
    shown = [
        path
        for path in paths
        if not any(fnmatch(part, each) for part in path.relative_to(folder).parts for each in left_out)
    ]
    first = sorted(shown, key=lambda path: path != folder / "Chart.yaml")
    return tarball.pack({f"{name}/{path.relative_to(folder)}": path for path in first}, epoch)


def schemas_of(settings: Settings, wanted: Sequence[str]) -> Mapping[str, Path]:
    """Return version (``1.37``) → folder of schemas, for those that are wanted, or the newest.

    Raises:
        UsageError: there are no schemas of a version.
    """
    there = {
        (int(match[1]), int(match[2])): path
        for path in tool("kubernetes-schemas", settings).iterdir()
        if (match := _FOLDER.fullmatch(path.name))
    }
    named = {f"{major}.{minor}": path for (major, minor), path in sorted(there.items())}
    if unknown := [each for each in wanted if each not in named]:
        known = f"one of {', '.join(named)}"
        raise UsageError(
            f"no schemas of Kubernetes {unknown[0]}", where="release.yaml: chart.kubernetes", expected=known
        )
    chosen = wanted or list(named)[-NEWEST:]
    return {each: named[each] for each in chosen}


def against_schemas(settings: Settings, version: str, schemas: Path, rendered: bytes, where: str) -> list[str]:
    """Hold rendered manifests against one version; return the kinds that are somebody else's, which nothing looked at.

    The schemas are Kubernetes' own; kubeconform compares. What is nobody's type there is an error where the group is
    Kubernetes' own (a mistyped kind, or one that this version no longer has), and left to whoever defines it where it
    is not.

    Raises:
        UsageError: a manifest is not what that version takes.
        InfrastructureError: kubeconform fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        _beside_each_other(schemas, Path(folder))
        ended = _compared(settings, version, folder, rendered)
    try:
        resources: list[dict[str, Any]] = json.loads(ended.stdout)["resources"]
    except (ValueError, KeyError, TypeError) as err:
        said = ended.stderr.decode(errors="replace").strip()
        raise InfrastructureError(f"kubeconform came to no result: {said}", where=where) from err
    wrong = list(_wrong(resources, version))
    if wrong or ended.returncode:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        what = "; ".join(wrong[:_SHOWN]) or "kubeconform refuses it"
        raise UsageError(f"Kubernetes {version} does not take it: {what}{more}", where=where)
    return sorted({f"{each['kind']} ({each['version']})" for each in resources if each["status"] == "statusSkipped"})


def _beside_each_other(schemas: Path, into: Path) -> None:
    """Copy schemas so that they refer to files beside them; as they are, they refer to a place on the Internet."""
    for path in schemas.glob("*.json"):
        content = path.read_bytes().replace(b'"$id":', b'"x-id":').replace(b'"$ref": "/api/', b'"$ref": "')
        (into / path.name).write_bytes(content)


def _compared(settings: Settings, version: str, folder: str, rendered: bytes) -> subprocess.CompletedProcess[bytes]:
    argv = [
        str(tool("kubeconform", settings)), "-schema-location", f"{folder}/{_FILE}", "-strict", "-verbose",
        "-ignore-missing-schemas", "-output", "json", "-kubernetes-version", f"{version}.0", "-",
    ]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(argv, env=environment, input=rendered, capture_output=True, timeout=_SECONDS, check=False)


def _wrong(resources: Sequence[Mapping[str, Any]], version: str) -> Iterator[str]:
    for each in resources:
        name = f"{each['kind']} {each['name']}".strip() or "a manifest"
        if each["status"] in ("statusInvalid", "statusError"):
            yield f"{name}: {_FRAME.sub('', ' '.join(str(each['msg']).split()))}"
        elif each["status"] == "statusSkipped" and _is_kubernetes(str(each["version"])):
            yield f"{name}: {each['version']} has no such kind in {version}"


def _is_kubernetes(api_version: str) -> bool:
    """Say whether a group is Kubernetes' own: without a dot, or below k8s.io, as its API conventions reserve it."""
    group, slash, _ = api_version.partition("/")
    return not slash or "." not in group or group.endswith(".k8s.io")
