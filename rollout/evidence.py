"""Evidence brought to nodes: each node's gate judges it by the node's own policy, and keeps what holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.each import side_by_side

if TYPE_CHECKING:
    from rollout.places import Target

FILE = "evidence-next.tar"
_USAGE = 2
_REFUSED = 1


def bring(targets: Sequence[Target], bundle: Path) -> Mapping[str, list[dict[str, Any]]]:
    """Have every node import a file of evidence; return node → what it said of each image.

    Raises:
        UsageError: the file cannot be read as evidence.
        InfrastructureError: a node's gate fails, or knows no evidence import.
    """
    answers = side_by_side(lambda target: _import(target, bundle), targets)
    return {target.node.name: answer for target, answer in zip(targets, answers, strict=True)}


def _import(target: Target, bundle: Path) -> list[dict[str, Any]]:
    node, layout = target.node, target.policy.layout
    path = f"{layout.etc}/{FILE}"
    node.put(bundle, path)
    try:
        argv = [layout.gate, "evidence", "import", path, "--json", "--config", layout.gate_config]
        done = node.run(argv, check=False)
    finally:
        node.run(["rm", "-f", "--", path])
    said = done.stderr.decode(errors="replace").strip().removeprefix("error: evidence import: ")
    if done.code == _USAGE:
        what = "its gate does not know evidence" if "unknown command" in said else said.replace(path, str(bundle))
        raise UsageError(what, where=node.name, do="upgrade it there" if "unknown command" in said else "")
    try:
        images = json.loads(done.stdout)["images"] if done.code in (0, _REFUSED) else None
    except (ValueError, KeyError, TypeError):
        images = None
    if not isinstance(images, list):
        raise InfrastructureError(said or f"the import ended with {done.code}", where=node.name)
    return images
