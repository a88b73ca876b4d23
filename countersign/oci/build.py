"""Images of static programs, as OCI layouts (image-spec 1.1, "Image Layout") that never differ between builds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EPOCH = "1970-01-01T00:00:00Z"
VARIANT_LABEL = "countersign.variant"

Descriptor = dict[str, Any]


def write_layout(
    into: Path,
    name: str,
    programs: Mapping[str, Path],
    beside: Mapping[str, Mapping[str, Path]] | None = None,
    reference: str = "",
    labels: Mapping[str, str] | None = None,
    created: str = EPOCH,
) -> str:
    """Write a layout whose ``index.json`` names one image index.

    Args:
        into: an existing folder.
        name: the program's path in the image, and its entry point: ``/name``.
        programs: platform (``linux/amd64``) to a static program.
        beside: further programs by name, each for the same platforms.
        reference: the image's name, for those who import the layout; it changes no digest of the image.
        labels: of each platform's image, and annotations of the index.
        created: when the image says that it was made (RFC 3339).

    Returns:
        The index's digest.
    """
    manifests = []
    for platform, program in programs.items():
        files = {name: program, **{other: paths[platform] for other, paths in (beside or {}).items()}}
        manifests.append(_add_image(into, name, platform, files, labels or {}, created))
    top = _add_index(into, manifests, labels or {})
    named = {"annotations": {"io.containerd.image.name": reference}} if reference else {}
    _finish(into, top | named)
    return str(top["digest"])


def variant(layout: Path, marker: str, dest: Path) -> Path:
    """Write the same image with another label, and so with other config, manifest and index digests.

    Args:
        layout: a layout as ``write_layout`` makes it.
        marker: the label's value; equal markers give equal digests.
        dest: a folder to make, or an empty one.

    Returns:
        ``dest``.
    """
    top = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    manifests = [_relabel(layout, entry, marker, dest) for entry in _read(layout, top)["manifests"]]
    _finish(dest, _add_index(dest, manifests))
    return dest


def _add_image(
    into: Path, name: str, platform: str, files: Mapping[str, Path], labels: Mapping[str, str], created: str
) -> Descriptor:
    archive = _tar(files)
    layer = _add(into, LAYER, _gzip(archive))
    system, _, architecture = platform.partition("/")
    config = {
        "architecture": architecture,
        "os": system,
        "created": created,
        "config": {"Entrypoint": [f"/{name}"], "Env": ["PATH=/"], "WorkingDir": "/"}
        | ({"Labels": dict(labels)} if labels else {}),
        "rootfs": {"type": "layers", "diff_ids": [_digest(archive)]},
        "history": [{"created": created, "created_by": f"countersign {name}"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _add_json(into, CONFIG, config),
        "layers": [layer],
    }
    return _add_json(into, MANIFEST, manifest) | {"platform": {"architecture": architecture, "os": system}}


def _relabel(layout: Path, entry: Descriptor, marker: str, dest: Path) -> Descriptor:
    manifest = _read(layout, entry)
    config = _read(layout, manifest["config"])
    config["config"].setdefault("Labels", {})[VARIANT_LABEL] = marker
    for layer in manifest["layers"]:
        _add(dest, layer["mediaType"], _blob(layout, layer["digest"]).read_bytes())
    manifest["config"] = _add_json(dest, CONFIG, config)
    return _add_json(dest, MANIFEST, manifest) | {"platform": entry["platform"]}


def _add_index(into: Path, manifests: list[Descriptor], annotations: Mapping[str, str] | None = None) -> Descriptor:
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return _add_json(into, INDEX, index | ({"annotations": dict(annotations)} if annotations else {}))


def _finish(into: Path, top: Descriptor) -> None:
    (into / "oci-layout").write_bytes(_canonical({"imageLayoutVersion": "1.0.0"}))
    (into / "index.json").write_bytes(_canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]}))


def _add_json(into: Path, media_type: str, document: Mapping[str, Any]) -> Descriptor:
    return _add(into, media_type, _canonical(document))


def _add(into: Path, media_type: str, content: bytes) -> Descriptor:
    digest = _digest(content)
    path = _blob(into, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _read(layout: Path, descriptor: Descriptor) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_blob(layout, descriptor["digest"]).read_bytes())
    return document


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _tar(files: Mapping[str, Path]) -> bytes:
    """Return an archive of executable files that belong to root, at the epoch."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in files.items():
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _gzip(content: bytes) -> bytes:
    """Return the content compressed, with neither a name nor a time in the header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, mtime=0, fileobj=buffer) as stream:
        stream.write(content)
    return buffer.getvalue()
