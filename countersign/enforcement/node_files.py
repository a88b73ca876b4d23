"""What our files on a node contain. The gate's program knows it, whoever brings the files (gate/internal/install)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.nodes.host import HOST

PLACE = "countersign.place/v1"
VERSION = "countersign.node-files/v1"


@dataclass(frozen=True)
class Written:
    """What a node has to have.

    Attributes:
        files: path → content.
        plugins: what containerd's configuration has to say below ``plugins``; nothing on CRI-O.
        crio: what CRI-O itself reads, path → content; nothing on containerd.
    """

    files: Mapping[str, bytes] = field(repr=False)
    plugins: Mapping[str, Any] = field(repr=False, default_factory=dict)
    crio: Mapping[str, bytes] = field(repr=False, default_factory=dict)


def written(program: Path, place: Mapping[str, Any]) -> Written:
    """Return what a node has to have.

    Args:
        program: the gate's, on this machine.
        place: the node, as ``Place`` of gate/internal/install has it, without ``version``.

    Raises:
        InfrastructureError: the program finds a mistake in it, or is not the one of this checkout.
    """
    return _written(program, json.dumps({"version": PLACE, **place}, default=str))


@lru_cache(maxsize=64)
def _written(program: Path, place: str) -> Written:
    result = HOST.run([str(program), "node-files"], input=place.encode(), check=False)
    if result.code:
        said = result.stderr.decode(errors="replace").strip().removeprefix("error: node-files: ")
        raise InfrastructureError(said or f"node-files ended with {result.code}", where=str(program))
    try:
        document = json.loads(result.stdout)
        version = document["version"]
        found = Written(_encoded(document["files"]), document["plugins"] or {}, _encoded(document.get("crio") or {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        version, found = "no answer that can be read", Written({})
    if version != VERSION:
        raise InfrastructureError(f"gave {version}", where=f"{program} node-files", expected=VERSION)
    return found


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {path: content.encode() for path, content in files.items()}
