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

if TYPE_CHECKING:
    from countersign.nodes.node import Node

OURS = "127.0.0.1:"
"""The demo's registries are on loopback, at ports that change; other entries are the machine's own."""


@dataclass(frozen=True)
class Credentials:
    """The file has these entries of ours, and no other ones.

    Attributes:
        path: the file; its folder exists.
        wanted: ``HOST:PORT`` → ``auth``; empty for none.
    """

    node: Node
    path: str
    wanted: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"credentials of the demo's registry ({self.path})"

    def needed(self) -> bool:
        """Return whether the file says otherwise."""
        found = self._read()
        return self._mended(found) != found

    def apply(self) -> None:
        """Write it, or remove it when nothing is left in it."""
        mended = self._mended(self._read())
        if mended.get("auths") or set(mended) - {"auths"}:
            self.node.run(["mkdir", "-p", "-m", "700", "--", self.path.rpartition("/")[0]])
            self.node.put((json.dumps(mended, indent=2) + "\n").encode(), self.path, 0o600)
        else:
            self.node.run(["rm", "-f", "--", self.path])

    def _read(self) -> dict[str, Any]:
        if not self.node.exists(self.path):
            return {}
        try:
            found: dict[str, Any] = json.loads(self.node.get(self.path))
            dict(found.get("auths", {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise InfrastructureError(
                f"is not JSON with auths ({error})", where=f"{self.node.name}: {self.path}"
            ) from None
        return found

    def _mended(self, found: dict[str, Any]) -> dict[str, Any]:
        others = {host: entry for host, entry in found.get("auths", {}).items() if not host.startswith(OURS)}
        ours = {host: {"auth": auth} for host, auth in self.wanted.items()}
        if not others and not ours and not set(found) - {"auths"}:
            return {}
        return {**found, "auths": {**others, **ours}}
