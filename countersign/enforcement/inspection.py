"""Is a node enforcing, now? What its own doctor finds there, with what set-up remembers of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError
from countersign.enforcement import doctor, record
from countersign.enforcement.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node


def findings(node: Node, layout: Layout, pins: Path, crio_socket: str = "") -> list[Problem]:
    """Return everything by which a node does not enforce what set-up left there; one fault hides no other.

    Args:
        node: the node.
        layout: where our parts lie there.
        pins: the place's file of pins, beside which set-up keeps its record.
        crio_socket: CRI-O's socket there, where CRI-O is the runtime.
    """
    laid = record.read(record.beside(pins), node.name)
    looks: list[Callable[[], Iterable[Problem]]] = [
        lambda: record.problems(node, laid, layout.gate),
        lambda: doctor.look(node, layout, laid, crio_socket=crio_socket),
    ]
    return list(dict.fromkeys(problem for look in looks for problem in tried(look)))


def tried(look: Callable[[], Iterable[Problem]]) -> list[Problem]:
    """Return what a look finds; one that cannot be made is a finding itself."""
    try:
        return list(look())
    except CountersignError as error:
        return [Problem(error.where or "the node", error.found, error.expected or "an answer", error.do)]


def document(place: str, node: str, problem: Problem, setup: str) -> dict[str, Any]:
    """Return a finding as ``status --json`` has it; ``problem`` is the line that users read, ``do`` what fixes it."""
    return {
        "node": node,
        "problem": str(problem),
        "where": problem.where,
        "found": problem.found,
        "expected": problem.expected,
        "do": problem.mend or f"run {setup} --on {place}",
    }
