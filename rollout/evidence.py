"""Evidence brought to nodes, and taken from them: each node's gate judges what comes by the node's own policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.each import side_by_side
from signing import evidence

if TYPE_CHECKING:
    from rollout.places import Target

FILE = "evidence-next.tar"
TAKEN = "evidence-taken.tar"
_USAGE = 2
_REFUSED = 1


@dataclass(frozen=True)
class Taken:
    """What one node keeps.

    Attributes:
        name: the node's.
        images: what its gate says of each: ``image`` and ``signatures``.
        left_out: what is too large for a file.
        archive: the evidence itself.
    """

    name: str
    images: Sequence[Mapping[str, Any]]
    left_out: Sequence[str]
    archive: bytes


def take(
    targets: Sequence[Target], images: Sequence[str], into: BinaryIO, far: Callable[[str], None] = lambda _: None
) -> list[Taken]:
    """Write what nodes keep as evidence into one file; whoever imports it judges it.

    Args:
        targets: the nodes.
        images: ``NAME@DIGEST``, or ``NAME`` for all of a repository; none for everything that has proven itself.
        into: takes the archive.
        far: is told how far it is.

    Raises:
        UsageError: no node keeps that, or what they keep together is too much for a file.
        InfrastructureError: a node's gate fails, or knows no evidence export.
    """
    found = [one for one in side_by_side(lambda target: _export(target, images), targets) if one]
    if not found:
        what = "no node keeps evidence of it" if images else "no node keeps evidence that has proven itself"
        raise UsageError(what, where=", ".join(images) or "--on", do="see countersign-gate evidence list there")
    far(f"of {len(found)} nodes")
    evidence.unite([one.archive for one in found], into)
    return found


def _export(target: Target, images: Sequence[str]) -> Taken | None:
    """Return what one node keeps; None where it keeps nothing of that."""
    node, layout = target.node, target.policy.layout
    path = f"{layout.etc}/{TAKEN}"
    words = [word for image in images for word in ("--image", image)]
    _require_gate(target)
    node.run(["rm", "-f", "--", path])
    try:
        argv = [layout.gate, "evidence", "export", path, "--json", "--config", layout.gate_config, *words]
        done = node.run(argv, check=False)
        said = done.stderr.decode(errors="replace").strip().removeprefix("error: evidence export: ")
        if done.code == _USAGE and "keeps no evidence" in said:
            return None
        if done.code == _USAGE:
            old = "unknown command" in said
            what = "its gate does not know evidence export" if old else said
            raise UsageError(what, where=node.name, do="upgrade it there" if old else "")
        if done.code:
            raise InfrastructureError(said or f"the export ended with {done.code}", where=node.name)
        document = json.loads(done.stdout)
        return Taken(node.name, document["images"], document["leftOut"], node.get(path))
    except (ValueError, KeyError, TypeError) as err:
        raise InfrastructureError("its gate's answer cannot be read", where=node.name) from err
    finally:
        node.run(["rm", "-f", "--", path])


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
    _require_gate(target)
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


def _require_gate(target: Target) -> None:
    """Raise InfrastructureError where set-up has put no gate."""
    gate = target.policy.layout.gate
    if target.node.run(["test", "-x", gate], check=False).code:
        do = "bring it under enforcement first: containerd.setup or crio.configure"
        raise InfrastructureError("there is no gate", where=f"{target.node.name}: {gate}", do=do)
