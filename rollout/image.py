"""The image that brings the gate to a cluster's nodes: gate and hook, and nothing else."""

from __future__ import annotations

import platform
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console import whole
from countersign.console.errors import UsageError
from countersign.nodes.facts import ARCHITECTURES
from countersign.oci.build import write_layout
from countersign.oci.reference import parse

if TYPE_CHECKING:
    from countersign.console.config import Settings

GATE, HOOK = "countersign-gate", "countersign-hook"


def write(settings: Settings, name: str, into: Path) -> str:
    """Write the image for this machine's platform as an OCI archive, and return ``repository@digest``.

    Args:
        settings: the user's; gate and hook are built with them if need be.
        name: the image's name with a tag, such as ``registry.example/countersign/gate:0.1.0``.
        into: the archive; written whole, or not at all.

    Raises:
        UsageError: the name is not one, or has a digest.
    """
    from countersign.tools.resolver import install

    wanted = parse(name)
    if wanted.digest:
        raise UsageError("the digest comes with the image", where=name, expected="a name with a tag")
    programs = install([GATE, HOOK], settings)
    machine = platform.machine()
    here = f"linux/{ARCHITECTURES.get(machine, machine)}"
    with tempfile.TemporaryDirectory(prefix="countersign-") as scratch:
        layout = Path(scratch, "layout")
        layout.mkdir()
        digest = write_layout(layout, GATE, {here: programs[GATE]}, {HOOK: {here: programs[HOOK]}}, str(wanted))
        packed = Path(scratch, "image.tar")
        with tarfile.open(packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path in sorted(layout.rglob("*")):
                archive.add(path, str(path.relative_to(layout)), recursive=False, filter=_plain)
        whole.write(into, packed.read_bytes())
    return f"{wanted.name}@{digest}"


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return an entry without anything of this machine: the same image gives the same archive."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry
