"""What our files on a node contain. The gate's program knows it, whoever brings the files (gate/internal/install)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.nodes.host import HOST

PLACE = "countersign.place/v1"
VERSION = "countersign.node-files/v1"


def written(program: Path, place: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Return path → content of the files of a node.

    Args:
        program: the gate's, on this machine.
        place: the node, as ``Place`` of gate/internal/install has it, without ``version``.

    Raises:
        InfrastructureError: the program finds a mistake in it, or is not the one of this checkout.
    """
    return _written(program, json.dumps({"version": PLACE, **place}))


@lru_cache(maxsize=64)
def _written(program: Path, place: str) -> Mapping[str, bytes]:
    result = HOST.run([str(program), "node-files"], input=place.encode(), check=False)
    if result.code:
        said = result.stderr.decode(errors="replace").strip().removeprefix("error: node-files: ")
        raise InfrastructureError(said or f"node-files ended with {result.code}", where=str(program))
    try:
        document = json.loads(result.stdout)
        version = document["version"]
        found = {path: b64decode(content, validate=True) for path, content in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        version, found = "no answer that can be read", {}
    if version != VERSION:
        raise InfrastructureError(f"gave {version}", where=f"{program} node-files", expected=VERSION)
    return found
