"""The runtime handlers that countersign is compared with: the same base spec with another hook, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from countersign.nodes.host import HOST
from countersign.nodes.steps import File
from countersign.nodes.template import render
from lab.bench.model import COSIGN, NO_HOOK, NO_OP

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "cosign-hook.sh"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def paths(folder: Path) -> dict[str, str]:
    """Return handler → where its base spec will lie below ``folder``."""
    return {variant.handler: str(folder / f"{variant.handler}.json") for variant in (NO_HOOK, NO_OP, COSIGN)}


def files(folder: Path, countersigns: bytes, noop: Path, cosign: Sequence[str]) -> list[File]:
    """Return the base specs, and the script that one of them runs.

    Args:
        countersigns: the base spec with countersign's hook.
        noop: the hook that does nothing.
        cosign: the arguments of ``cosign-hook.sh``.
    """
    script = File(HOST, str(folder / SCRIPT.name), SCRIPT.read_bytes(), 0o755)
    argv: dict[str, Sequence[str]] = {
        NO_HOOK.handler: (),
        NO_OP.handler: (str(noop),),
        COSIGN.handler: (script.path, *cosign),
    }
    env = [PATH, f"HOME={folder}"]
    specs = paths(folder).items()
    return [script, *(File(HOST, path, _other_hook(countersigns, argv[handler], env)) for handler, path in specs)]


def _other_hook(spec: bytes, argv: Sequence[str], env: Sequence[str]) -> bytes:
    document: dict[str, Any] = json.loads(spec)
    hooks = [json.loads(render(HERE / "hook.json.j2", argv=list(argv), env=list(env)))] if argv else []
    document["hooks"]["createRuntime"] = hooks
    return (json.dumps(document, indent=2) + "\n").encode()
