"""Which Linux a machine has, and how it installs packages; os-release(5)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.console.errors import MissingError
from countersign.nodes.node import CommandError

if TYPE_CHECKING:
    from countersign.nodes.node import Node

INSTALL_WITHIN = 900.0
SUPPORTED = {("ubuntu", "24.04"): "deb", ("debian", "12"): "deb", ("rocky", "9"): "rpm"}
NON_INTERACTIVE = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


@dataclass(frozen=True)
class Distribution:
    """What a machine says of itself.

    Attributes:
        name: ``ubuntu``, ``debian`` or ``rocky``.
        version: such as ``24.04``, or ``9``.
        family: ``deb`` or ``rpm``.
    """

    name: str
    version: str
    family: str


def distribution(node: Node) -> Distribution:
    """Return a machine's distribution.

    Raises:
        MissingError: CRI-O is not installed on this one.
    """
    text = node.get("/etc/os-release").decode(errors="replace")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    name, version = (" ".join(shlex.split(fields.get(key, ""))) for key in ("ID", "VERSION_ID"))
    for known, family in SUPPORTED.items():
        if (name, version) == known or (family == "rpm" and (name, version.split(".")[0]) == known):
            return Distribution(name, known[1], family)
    said = " ".join(filter(None, (name, version))) or "an unnamed distribution"
    raise MissingError(
        f"runs {said}",
        where=node.name,
        expected=" or ".join(" ".join(known) for known in SUPPORTED),
        do="install CRI-O there yourself, or name a binary with CRIO_BIN",
    )


@dataclass(frozen=True)
class Installed:
    """A step: packages are installed, and not exchanged by upgrades where they are held.

    Attributes:
        family: of the distribution.
        packages: by their names there.
        held: upgrades of the machine leave them as they are.
    """

    node: Node
    family: str
    packages: Sequence[str]
    held: bool = False

    @property
    def name(self) -> str:
        """What users read."""
        return f"packages {', '.join(self.packages)}"

    def needed(self) -> bool:
        """Return whether one is missing."""
        return bool(self._missing())

    def apply(self) -> None:
        """Install those that are missing.

        Raises:
            CommandError: a repository could not be read, or has no such package.
        """
        missing = self._missing()
        if self.family == "deb":
            self.node.run(["apt-get", "update", "-qq"], timeout=INSTALL_WITHIN, env=NON_INTERACTIVE)
            install = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq", "--no-install-recommends"]
            self.node.run([*install, *missing], timeout=INSTALL_WITHIN, env=NON_INTERACTIVE)
            if self.held:
                self.node.run(["apt-mark", "hold", *self.packages])
        else:
            install = ["dnf", "install", "-y", "-q", "--setopt=install_weak_deps=False", "--setopt=localpkg_gpgcheck=1"]
            self.node.run([*install, *missing], timeout=INSTALL_WITHIN)

    def _missing(self) -> list[str]:
        return [package for package in self.packages if not _has(self.node, self.family, package)]


def _has(node: Node, family: str, package: str) -> bool:
    if family == "rpm":
        return node.run(["rpm", "-q", "--quiet", package], check=False).code == 0
    try:
        shown = node.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package])
    except CommandError:
        return False
    return shown.text == "installed"
