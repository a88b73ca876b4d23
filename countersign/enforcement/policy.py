"""The policy on a node."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.enforcement.gate_client import request
from countersign.enforcement.layout import Layout
from countersign.nodes.steps import File

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey
    from countersign.nodes.node import Node

ASKED_WITHIN = 5.0
MARK_VERSION = "countersign.policy-mark/v1"


def render(policy: Path, pins: Iterable[str], serial: int = 0) -> bytes:
    """Return the gate's policy from a policy.yaml, with the pins of a set-up and a serial added.

    Raises:
        UsageError: the policy is invalid; the message names file, line and key.
    """
    from countersign.policy.gate import render as render_for_gate
    from countersign.policy.load import load

    return render_for_gate(load(policy), tuple(pins), serial)


def read_pins(path: Path) -> list[str]:
    """Return the pins that set-up wrote, or none."""
    if not path.is_file():
        return []
    pins: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return pins


@dataclass(frozen=True)
class There:
    """What a node has.

    Attributes:
        policy: the rendered policy that lies there; empty where none can be read.
        serial: of that policy; 0 for none.
        highest: the highest serial that was in force, or lies there; 0 for none.
    """

    policy: dict[str, Any]
    serial: int
    highest: int


def there(node: Node, layout: Layout) -> There:
    """Return what a node has, and what its gate remembers."""
    from countersign.policy.gate import VERSION

    # The mark first: whatever the other file holds cannot hide it.
    text = node.run(["cat", "--", layout.policy_mark, layout.policy], check=False).text
    found: dict[str, dict[str, Any]] = {}
    while text:
        try:
            document, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            break
        if isinstance(document, dict):
            found[str(document.get("version"))] = document
        text = text[end:].lstrip()
    policy, mark = found.get(VERSION, {}), found.get(MARK_VERSION, {})
    return There(policy, _serial(policy), max(_serial(policy), _serial(mark)))


def _serial(document: dict[str, Any]) -> int:
    found = document.get("serial", 0)
    return found if isinstance(found, int) else 0


def in_force(node: Node, layout: Layout) -> str:
    """Return ``sha256:<hex>`` of the policy by which a node's gate decides; empty for none.

    Raises:
        GateDown: it does not answer.
    """
    return str(request(node, layout, "ping", timeout=ASKED_WITHIN).get("policy", ""))


def _decoded(line: bytes) -> bytes:
    """Return a signature of a file that has one a line, in base64; nothing for what is not base64."""
    try:
        return b64decode(line, validate=True)
    except binascii.Error:
        return b""


@dataclass(frozen=True)
class Policy:
    """A policy.yaml is on the node, in the gate's form.

    Attributes:
        node: where it goes.
        layout: to which paths there.
        source: the policy.yaml.
        pins: of the set-up.
        keys_to_come: a step before this one makes the keys that the policy names.
        serial: of the rendered policy; what a gate does not know by a serial needs none.
        key: opens the key that signs it; None for no signature.
    """

    node: Node
    layout: Layout
    source: Path
    pins: tuple[str, ...]
    keys_to_come: bool = False
    serial: int = 0
    key: Callable[[], PrivateKey] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"policy {self.source}"

    def needed(self) -> bool:
        """Return whether the node has another one, or not its signature; its serial alone makes no other."""
        return self.keys_to_come or self.differs_from(there(self.node, self.layout).policy) or not self._signed()

    def _signed(self) -> bool:
        """Return whether our own key has signed what lies on the node, as far as that is asked for."""
        if self.key is None:
            return True
        policy, signatures = (
            self.node.run(["cat", "--", path], check=False).stdout
            for path in (self.layout.policy, self.layout.policy_signature)
        )
        return any(self.key().public.verifies(_decoded(line), policy) for line in signatures.split())

    def differs_from(self, other: dict[str, Any]) -> bool:
        """Return whether a rendered policy says something else; its serial does not count."""
        wanted: dict[str, Any] = json.loads(render(self.source, self.pins))
        return {key: value for key, value in other.items() if key != "serial"} != wanted

    def numbered(self) -> Policy:
        """Return it with the next serial of a node on which one was in force; else it stays without."""
        highest = there(self.node, self.layout).highest
        return replace(self, serial=highest + 1 if highest else 0)

    def as_laid(self) -> Policy:
        """Return it with the serial of the policy that lies on the node; its signature is never twice the same."""
        return replace(self, serial=there(self.node, self.layout).serial, key=None)

    def apply(self) -> None:
        """Put it there; a gate that runs takes it up by itself. At each moment the policy has its own signature."""
        wanted, path = self.numbered(), self.layout.policy_signature
        signature = wanted.signature()
        if signature:
            before = self.node.run(["cat", "--", path], check=False).stdout
            self.node.put(before + signature, path)
        wanted.file().apply()
        if signature:
            self.node.put(signature, path)

    def file(self) -> File:
        """Return the rendered policy as it goes to the node."""
        return File(self.node, self.layout.policy, self.rendered())

    def rendered(self) -> bytes:
        """Return the file's content."""
        return render(self.source, self.pins, self.serial)

    def laid_out(self) -> list[File]:
        """See `countersign.enforcement.record.LaysOut`."""
        signature = self.signature()
        return [*([File(self.node, self.layout.policy_signature, signature)] if signature else []), self.file()]

    def signature(self) -> bytes:
        """Return the content of the signature's file; nothing where nobody signs."""
        return b64encode(self.key().sign(self.rendered())) + b"\n" if self.key else b""

    def diff(self) -> str:
        """See `countersign.console.steps.ShowsDiff`; nothing can be told while keys are to come."""
        return "" if self.keys_to_come else self.numbered().file().diff()
