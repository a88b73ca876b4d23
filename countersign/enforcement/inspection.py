"""Is a node enforcing, now? What `enforcement.doctor` cannot see in settings: files replaced, a policy not in force."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError
from countersign.enforcement import policy, record
from countersign.enforcement.problem import NotEnforced, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node


def findings(
    node: Node, layout: Layout, pins: Path, gate_pid: int, doctor: Callable[[], Iterable[Problem]]
) -> list[Problem]:
    """Return everything by which a node does not enforce what set-up left there; one fault hides no other.

    Args:
        node: the node.
        layout: where our parts lie there.
        pins: the place's file of pins, beside which set-up keeps its record.
        gate_pid: the gate's process there, or 0.
        doctor: the runtime's own look at its settings.
    """
    laid = record.read(record.beside(pins), node.name)
    looks: list[Callable[[], Iterable[Problem]]] = [
        doctor,
        lambda: record.problems(node, laid),
        lambda: record.running_problems(node, gate_pid, laid, layout.gate),
        lambda: policy.problems(node, layout),
    ]
    return [problem for look in looks for problem in tried(look)]


def tried(look: Callable[[], Iterable[Problem]]) -> list[Problem]:
    """Return what a look finds; one that cannot be made is a finding itself."""
    try:
        return list(look())
    except NotEnforced as error:
        return list(error.problems)
    except CountersignError as error:
        return [Problem(error.where or "the node", error.found, error.expected or "an answer", error.do)]


def document(place: str, node: str, problem: Problem, room: str) -> dict[str, Any]:
    """Return a finding as ``status --json`` has it; ``problem`` is the line that users read, ``do`` what mends it."""
    verb = {"containerd": "setup", "crio": "configure"}[room]
    return {
        "node": node,
        "problem": str(problem),
        "where": problem.where,
        "found": problem.found,
        "expected": problem.expected,
        "do": problem.mend or f"run ./inv {room}.{verb} --on {place}",
    }
