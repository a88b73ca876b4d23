"""Is the enforcement in force? The gate's own doctor on the node says so; here its answer becomes findings.

The doctor looks (gate/internal/doctor); `countersign.enforcement.proof` then tries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError, InfrastructureError, MissingError
from countersign.enforcement import record
from countersign.enforcement.problem import NotEnforced, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.enforcement.layout import Layout
    from countersign.enforcement.record import Laid
    from countersign.nodes.node import Node

VERSION = "countersign.doctor/v1"
RECORD = "countersign.record/v1"
LOOKED = (0, 1, 4)
"""Exit codes with which it gives its document."""
SETUP = "set-up"
"""What the doctor is told to name where set-up fixes what it found."""
WITHIN = 60.0
TOLD = 300


def examine(node: Node, layout: Layout, crio_socket: str = "") -> list[Problem]:
    """Look at everything that a look can tell, and return the warnings; the arguments are those of `look`.

    Raises:
        NotEnforced: with every problem found.
    """
    found = look(node, layout, crio_socket=crio_socket)
    if problems := [problem for problem in found if not problem.warning]:
        raise NotEnforced(problems, f"doctor on {node.name}")
    return found


def look(node: Node, layout: Layout, laid: Mapping[str, Laid] | None = None, *, crio_socket: str = "") -> list[Problem]:
    """Return everything that the gate's doctor finds on a node.

    Args:
        node: where it looks.
        layout: where our parts are.
        laid: path → what set-up put there, to compare with; see `countersign.enforcement.record`.
        crio_socket: CRI-O's socket, where CRI-O is the runtime.

    Raises:
        InfrastructureError: it gives no answer that can be read.
    """
    argv = [layout.gate, "doctor", "--json", "--config", layout.gate_config, "--setup", SETUP]
    if crio_socket:
        argv += ["--crio-socket", crio_socket]
    record = b""
    if laid:
        argv += ["--record", "-"]
        record = json.dumps({"version": RECORD, "files": {path: asdict(each) for path, each in laid.items()}}).encode()
    try:
        answer = node.run(argv, input=record, check=False, timeout=WITHIN)
    except MissingError:
        return [Problem(layout.gate, "missing", "the gate's program")]
    found: list[Problem] | None = None
    try:
        document = json.loads(answer.stdout)
        if answer.code in LOOKED and document["version"] == VERSION:
            found = list(_problems(document))
    except (ValueError, KeyError, TypeError, AttributeError):
        found = None
    if found is None:
        said = answer.stderr.decode(errors="replace").strip()[-TOLD:] or f"exit code {answer.code}"
        raise InfrastructureError(
            f"gives no answer that can be read: {said}", where=f"{node.name}: {layout.gate} doctor", expected=VERSION
        )
    return found


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield each finding; a node that is not fine has one at least."""
    bad = False
    for check in document["checks"]:
        for each in check.get("findings", ()):
            warning = check["state"] == "warning"
            bad = bad or not warning
            mend = "" if each["mend"] == f"run {SETUP}" else each["mend"]
            yield Problem(each["where"], each["found"], each["wanted"], mend, warning)
    if not document["ok"] and not bad:
        yield Problem("the node", "not enforcing, and the gate's doctor does not say why", "a node that enforces")


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
        lambda: look(node, layout, laid, crio_socket=crio_socket),
    ]
    return list(dict.fromkeys(problem for each in looks for problem in tried(each)))


def tried(looking: Callable[[], Iterable[Problem]]) -> list[Problem]:
    """Return what a look finds; one that cannot be made is a finding itself."""
    try:
        return list(looking())
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
