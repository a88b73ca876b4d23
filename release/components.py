"""What a Go program is made of, from the build information that the compiler put into it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from countersign.console.errors import InfrastructureError


@dataclass(frozen=True)
class Component:
    """One Go module (or the standard library).

    Attributes:
        name: its path.
        version: with its ``v`` (the standard library's without).
        h1: the module's sum in the checksum database, as 64 hexadecimal digits; empty where it has none.
    """

    name: str
    version: str
    h1: str = ""

    @property
    def purl(self) -> str:
        """The package URL, as the purl specification has Go modules: the version with its ``v``."""
        return f"pkg:golang/{quote(self.name.lower(), safe='/.~-_')}@{quote(self.version, safe='.~-_')}"


def read(info: Mapping[str, Any], where: str) -> list[Component]:
    """Return the modules of ``go version -m -json``, sorted, the standard library first.

    Raises:
        InfrastructureError: it is not that.
    """
    try:
        found = [Component("stdlib", str(info["GoVersion"]).removeprefix("go"))]
        for each in info.get("Deps") or []:
            really = each.get("Replace") or each
            found.append(Component(really["Path"], really.get("Version") or "(devel)", _hex(really.get("Sum") or "")))
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise InfrastructureError("has build information that cannot be read", where=where) from err
    return [found[0], *sorted(set(found[1:]), key=lambda each: (each.name, each.version))]


def _hex(total: str) -> str:
    """Return ``h1:BASE64`` of go.sum in hexadecimal, as in-toto's digest ``dirHash1`` has it."""
    kind, _, encoded = total.partition(":")
    return base64.b64decode(encoded, validate=True).hex() if kind == "h1" else ""
