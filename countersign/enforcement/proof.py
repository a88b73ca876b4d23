"""The proof that nothing runs unseen: the gate's own ``prove`` on the node tries it; here its receipt becomes findings.

Settings can be looked at (`countersign.enforcement.doctor`), but only a refusal by the gate, arriving in the
runtime's own error, shows that every part of the way is there (gate/internal/prove).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement import access
from countersign.enforcement.problem import NotEnforced, Problem

if TYPE_CHECKING:
    from countersign.enforcement.runtime import Runtime

VERSION = "countersign.receipt/v1"
TRIED = (0, 1)
"""Exit codes with which it gives a receipt."""
CLAIM = "an image without a signature is refused at pull and at start"
WITHIN = 150.0
"""Seconds; the gate gives up earlier by itself, and takes back what it did."""
TOLD = 300


@dataclass(frozen=True)
class Proof:
    """What a proof that holds says beside `CLAIM`.

    Attributes:
        allowed: the image that got through, or an empty text.
        rule: why the policy allows it.
        notes: what was not proven, and why; and what else a set-up warns of.
    """

    allowed: str
    rule: str
    notes: Sequence[str]


def prove(runtime: Runtime, *more: str, image: str = "") -> Proof:
    """Have the node prove itself.

    Args:
        runtime: under enforcement.
        more: further options of ``countersign-gate prove``.
        image: one that the policy has to allow; empty tries what is there.

    Raises:
        NotEnforced: something was not refused that has to be, or not by the gate for the right reason; or an image
            was refused that the policy allows.
        InfrastructureError: it could not be tried.
    """
    node, layout = runtime.node, runtime.layout
    argv = [layout.gate, "prove", "--json", "--config", layout.gate_config, *more]
    if image:
        argv += ["--image", image]
    with runtime.undisturbed():
        answer = node.run(argv, check=False, timeout=WITHIN)
    where = f"{node.name}: {layout.gate} prove"
    if answer.code in TRIED:
        try:
            return _read(json.loads(answer.stdout), f"canary on {node.name}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InfrastructureError(f"gives no receipt that can be read ({error})", where=where) from error
    said = answer.stderr.decode(errors="replace").strip()[-TOLD:] or f"exit code {answer.code}"
    raise InfrastructureError(f"nothing could be proven: {said}", where=where, do="fix it and run set-up again")


def _read(receipt: Mapping[str, Any], where: str) -> Proof:
    if receipt["version"] != VERSION:
        raise ValueError(f"got version {receipt['version']!r}, expected {VERSION}")
    problems = [Problem(each["where"], each["found"], each["expected"]) for each in receipt["problems"]]
    if not problems and receipt["proven"]["refuse"] is not True:
        problems = [Problem("the canary", "not refused, and the gate does not say where", "refused everywhere")]
    if problems:
        raise NotEnforced(problems, where)
    proven = receipt["proven"]["allow"] is True
    first: Mapping[str, Any] = receipt["allowed"][0] if proven else {"image": "", "rule": ""}
    return Proof(first["image"], first["rule"], tuple(receipt["notes"]))


def show(runtime: Runtime, proof: Proof) -> None:
    """Tell users what else came of it, and which registries of the policy the node may not be let in to."""
    from countersign.console import output

    where = runtime.node.name
    if proof.allowed:
        output.done(f"{where}: {proof.allowed} is allowed ({proof.rule})")
    for line in (*proof.notes, *access.of_runtime(runtime)):
        output.warn(f"{where}: {line}")
