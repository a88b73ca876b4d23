"""SBOMs of what an image's file system has, by syft; equal images give equal bytes.

syft names each document at random and by the time of day: both, and the digest that it is about, are put in here.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.tools.resolver import tool
from release.git import Commit
from release.sbom import TOOL, encode

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.made import File, Release

_FORMS = {"spdx": "spdx-json@2.3", "cyclonedx": "cyclonedx-json@1.6"}
_SECONDS = 600


def inventory(settings: Settings, release: Release, file: File, layout: Path) -> Mapping[str, bytes]:
    """Return form → SBOM of one platform of an image.

    Args:
        settings: where syft is found.
        release: what it is released with.
        file: the platform, as something that SBOMs are about.
        layout: the image's.

    Raises:
        InfrastructureError: syft cannot read it.
    """
    found = {form: _by_syft(settings, file, layout, name, release.release) for form, name in _FORMS.items()}
    time = Commit(release.commit, release.epoch).time
    return {
        "spdx": encode(_spdx(found["spdx"], release, file, time)),
        "cyclonedx": encode(_cyclonedx(found["cyclonedx"], release, file, time)),
    }


def _by_syft(settings: Settings, file: File, layout: Path, form: str, version: str) -> dict[str, Any]:
    argv = [
        str(tool("syft", settings)), "scan", f"oci-dir:{layout}", "--platform", file.platform, "--output", form,
        "--source-name", file.program, "--source-version", version, "--quiet",
    ]  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR")}
    environment = {**kept, "SYFT_CHECK_FOR_APP_UPDATE": "false", "NO_COLOR": "1"}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    try:
        document: dict[str, Any] = json.loads(ended.stdout) if ended.returncode == 0 else {}
    except ValueError:
        document = {}
    if not document:
        said = " ".join(ended.stderr.split()) or "it says nothing"
        raise InfrastructureError(f"syft cannot read it: {said}", where=file.name)
    return document


def _spdx(document: dict[str, Any], release: Release, file: File, time: str) -> Mapping[str, Any]:
    described = next(
        each["relatedSpdxElement"] for each in document["relationships"] if each["relationshipType"] == "DESCRIBES"
    )
    own = next(each for each in document["packages"] if each["SPDXID"] == described)
    own["checksums"] = [{"algorithm": "SHA256", "checksumValue": file.sha256}]
    creators = [each for each in document["creationInfo"]["creators"] if each.startswith("Tool: ")]
    return {
        **document,
        "name": file.name,
        "documentNamespace": f"{release.source}/spdx/{file.name}-{file.sha256}",
        "creationInfo": {"created": time, "creators": [*creators, f"Tool: {TOOL}"]},
    }


def _cyclonedx(document: dict[str, Any], release: Release, file: File, time: str) -> Mapping[str, Any]:
    metadata = document["metadata"]
    own = {**metadata["component"], "hashes": [{"alg": "SHA-256", "content": file.sha256}]}
    return {
        **document,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{release.source}#{file.sha256}')}",
        "metadata": {**metadata, "timestamp": time, "component": own},
    }
