"""Credentials of the demo's registry beside those that the machine has (containers-auth.json(5)).

CRI passes credentials for a registry's name; CRI-O's library does not send them to the place where registries.conf
says that the registry is, so that place needs its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.nodes.steps import Folder
from countersign.oci import credentials

if TYPE_CHECKING:
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node

BEFORE = "auth.json.before"
OURS = "127.0.0.1:"
"""The demo's registries are on loopback, at ports that change; other entries are the machine's own."""


@dataclass(frozen=True)
class Credentials:
    """The file has these entries of ours, and no other ones.

    Attributes:
        layout: where our own files lie; the file as it was before is kept among them.
        path: the file; its folder exists.
        wanted: ``HOST:PORT`` → ``auth``; empty for none.
    """

    node: Node
    layout: Layout
    path: str
    wanted: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"credentials of the demo's registry ({self.path})"

    def needed(self) -> bool:
        """Return whether the file says otherwise."""
        auths = self._read(self.path).get("auths", {})
        return {host: entry for host, entry in auths.items() if host.startswith(OURS)} != self._ours()

    def apply(self) -> None:
        """Write it; when nothing of ours is to be in it, put back the file that was there, or remove it."""
        found = self._read(self.path)
        fixed = self._with_ours(found)
        before = f"{self.layout.etc}/{BEFORE}"
        if not self.wanted and self.node.exists(before) and self._with_ours(self._read(before)) == fixed:
            self.node.run(["mv", "-f", "--", before, self.path])
        elif fixed.get("auths") or set(fixed) - {"auths"}:
            theirs = not any(host.startswith(OURS) for host in found.get("auths", {}))
            if self.wanted and theirs and self.node.exists(self.path) and not self.node.exists(before):
                self.node.run(["cp", "-a", "--", self.path, before])
            Folder(self.node, self.path.rpartition("/")[0], 0o700, record=self.layout.folders_made).apply()
            self.node.put((json.dumps(fixed, indent=2) + "\n").encode(), self.path, 0o600)
        else:
            self.node.run(["rm", "-f", "--", self.path])

    def _read(self, path: str) -> dict[str, Any]:
        if not self.node.exists(path):
            return {}
        try:
            found: dict[str, Any] = credentials.document(self.node.get(path))
            found["auths"] = dict(found.get("auths") or {})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InfrastructureError(f"is not JSON with auths ({error})", where=f"{self.node.name}: {path}") from None
        return found

    def _ours(self) -> dict[str, dict[str, str]]:
        return {host: {"auth": auth} for host, auth in self.wanted.items()}

    def _with_ours(self, found: dict[str, Any]) -> dict[str, Any]:
        others = {host: entry for host, entry in found.get("auths", {}).items() if not host.startswith(OURS)}
        ours = self._ours()
        if not others and not ours and not set(found) - {"auths"}:
            return {}
        return {**found, "auths": {**others, **ours}}
