"""The policy put in force by a node's own gate: it checks, replaces, and says when it decides by it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement import record

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.enforcement.policy import Policy
    from countersign.nodes.node import Node, Result

REFUSED = 1
SIGNATURE = "policy-next.sig"


@dataclass(frozen=True)
class Installed:
    """What a node's gate said.

    Attributes:
        changed: the policy, or its signature, was another one.
        in_force: the running gate decides by it.
        hash: ``sha256:<hex>`` of the file.
        serial: of the policy.
    """

    changed: bool
    in_force: bool
    hash: str
    serial: int


def check(wanted: Policy, signature: bytes = b"") -> Installed:
    """Have the node's gate check a policy, its signature and its serial; nothing is changed.

    Raises:
        InfrastructureError: the gate does not take it, and why.
    """
    return _call(wanted, signature, ["--plan"])


def install(wanted: Policy, laid: Path, signature: bytes = b"") -> Installed:
    """Put a policy in force on a node.

    Args:
        wanted: the policy for its node, with its serial.
        laid: this machine's record of what set-up put there; see `countersign.enforcement.record`.
        signature: base64, where the node's gate.json has ``policyKeys``.

    Raises:
        InfrastructureError: the gate does not take it, or does not decide by it.
    """
    done = _call(wanted, signature, [])
    record.amend(laid, wanted.node.name, [wanted.file()])
    return done


def _call(wanted: Policy, signature: bytes, options: list[str]) -> Installed:
    layout, node = wanted.layout, wanted.node
    argv = [layout.gate, "install-policy", "-", "--json", "--config", layout.gate_config, *options]
    path = f"{layout.etc}/{SIGNATURE}"
    if not signature:
        return _answer(node.run(argv, input=wanted.rendered(), check=False), node)
    node.put(signature, path)
    try:
        return _answer(node.run([*argv, "--signature", path], input=wanted.rendered(), check=False), node)
    finally:
        node.run(["rm", "-f", "--", path])


def _answer(result: Result, node: Node) -> Installed:
    said = result.stderr.decode(errors="replace").strip().removeprefix("error: install-policy: ")
    if result.code:
        raise InfrastructureError(
            said or f"install-policy ended with {result.code}",
            where=node.name,
            do="" if result.code == REFUSED else "run set-up there again, if its gate is older than this command",
        )
    try:
        document: dict[str, Any] = json.loads(result.stdout)
        return Installed(document["changed"], document["inForce"], document["hash"], document["serial"])
    except (ValueError, KeyError) as error:
        raise InfrastructureError(
            f"install-policy gave no answer that can be read ({error})", where=node.name
        ) from None
