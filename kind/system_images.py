"""The images of Kubernetes' own components for node images that are built here, as one OCI archive.

They are built under their upstream names from upstream's programs, one layer each, and only for the platform
of the node. kube-proxy needs iptables beside itself, which it gets from the node's root filesystem.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from countersign.oci.build import CONFIG, EPOCH, LAYER, MANIFEST

NAME = "io.containerd.image.name"
IPTABLES = "usr/sbin/xtables-nft-multi"
EXTENSIONS = "usr/lib/x86_64-linux-gnu/xtables"
NAMES_OF_IPTABLES = tuple(f"{name}{verb}" for name in ("iptables", "ip6tables") for verb in ("", "-save", "-restore"))


@dataclass(frozen=True)
class SystemImage:
    """One image.

    Attributes:
        reference: its name with a tag.
        files: path in the image → the local file.
        links: path in the image → what the link there says.
        entrypoint: what it runs by itself.
    """

    reference: str
    files: Mapping[str, Path] = field(repr=False)
    entrypoint: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict, repr=False)


def write_archive(path: Path, images: Sequence[SystemImage], architecture: str) -> None:
    """Write all images into one archive of an OCI layout (image-spec 1.1), as ``ctr images import`` takes it."""
    with tarfile.open(path, "w") as archive:
        manifests = [_add_image(archive, image, architecture) for image in images]
        _add_file(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add_file(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())


def kube_proxy_files(program: Path, root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files and links of kube-proxy's image: itself, and iptables with its libraries from ``root``."""
    needed = [IPTABLES, *(str(path.relative_to(root)) for path in sorted((root / EXTENSIONS).glob("*.so")))]
    found = {"usr/local/bin/kube-proxy": program}
    for name in dict.fromkeys([*needed, *_libraries(root, needed)]):
        found[name] = _within(root, name)
    links = {f"usr/sbin/{name}": "xtables-nft-multi" for name in NAMES_OF_IPTABLES}
    return found, {**links, "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin", "bin": "usr/bin"}


def _libraries(root: Path, programs: Sequence[str]) -> Iterator[str]:
    """Yield the shared libraries of programs below ``root``, the dynamic linker among them (ldd(1))."""
    argv = ["chroot", str(root), "ldd", *(f"/{program}" for program in programs)]
    for line in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines():
        paths = [word for word in line.split() if word.startswith("/") and not word.endswith(":")]
        for path in paths:
            merged = path.lstrip("/")
            yield merged if merged.startswith("usr/") else f"usr/{merged}"


def _within(root: Path, name: str) -> Path:
    """Return the file that a path below ``root`` leads to, links followed inside of it."""
    path = root / name
    for _ in range(8):
        if not path.is_symlink():
            return path
        target = path.readlink()
        path = root / str(target).lstrip("/") if target.is_absolute() else path.parent / target
    raise ValueError(f"too many links: {name}")


def _add_image(archive: tarfile.TarFile, image: SystemImage, architecture: str) -> dict[str, Any]:
    layer, diff_id = _layer(image)
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": {"Entrypoint": list(image.entrypoint), "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _add_blob(archive, CONFIG, json.dumps(config, sort_keys=True).encode()),
        "layers": [_add_blob(archive, LAYER, layer)],
    }
    top = _add_blob(archive, MANIFEST, json.dumps(manifest, sort_keys=True).encode())
    return {**top, "platform": {"os": "linux", "architecture": architecture}, "annotations": {NAME: image.reference}}


def _layer(image: SystemImage) -> tuple[bytes, str]:
    """Return the layer, compressed as fast as can be, and the digest of what it unpacks to."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for name, target in image.links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            layer.addfile(link)
        for name, file in image.files.items():
            _add_file(layer, name, file.read_bytes(), 0o755)
    content = plain.getvalue()
    return gzip.compress(content, 1, mtime=0), "sha256:" + hashlib.sha256(content).hexdigest()


def _add_blob(archive: tarfile.TarFile, media_type: str, content: bytes) -> dict[str, Any]:
    value = hashlib.sha256(content).hexdigest()
    _add_file(archive, f"blobs/sha256/{value}", content)
    return {"mediaType": media_type, "digest": f"sha256:{value}", "size": len(content)}


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
