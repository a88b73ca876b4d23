"""Whether what a chart renders is what Kubernetes takes: held against the schemas of several of its versions.

The schemas are Kubernetes' own, one folder a version; kubeconform compares. What is nobody's type there is an error
where the group is Kubernetes' own (a mistyped kind, or one that this version no longer has), and left to whoever
defines it where it is not.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, UsageError
from countersign.tools.resolver import tool

if TYPE_CHECKING:
    from countersign.console.config import Settings

NEWEST = 3
"""How many minor versions a chart is held against where release.yaml names none."""
_FOLDER = re.compile(r"v([0-9]+)\.([0-9]+)\.0-local-strict")
_FILE = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
_FRAME = re.compile(r"^problem validating schema\..*?#' - ")
"""What kubeconform says before what is wrong; it names a file of ours."""
_SHOWN = 3
_SECONDS = 120


def versions(settings: Settings, wanted: Sequence[str]) -> Mapping[str, Path]:
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


def check(settings: Settings, version: str, schemas: Path, rendered: bytes, where: str) -> list[str]:
    """Hold rendered manifests against one version; return the kinds that are somebody else's, which nothing looked at.

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
