"""CRI-O on a machine of the user's: from its official packages, or from a binary that the user names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes.host import HOST
from countersign.nodes.steps import File, Folder
from countersign.nodes.systemd import UnitRuns
from crio import kubernetes as clusters
from crio import repository
from crio.distribution import Installed, distribution

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

FILES = Path(__file__).resolve().parent / "files"
OLDEST = (1, 34)
"""The first CRI-O with NRI's default validator (its pull request 9415): with an older one nothing can demand that our
NRI plugin is there, and so a hook that CRI-O dropped would go unseen."""
UNIT = "crio.service"
CONFIG = "/etc/crio/crio.conf.d"
NETWORK = "/etc/cni/net.d"
LINKS = "/etc/systemd/network"
BEFORE = {"deb": ("ca-certificates", "curl", "gnupg"), "rpm": ("ca-certificates", "curl", "gnupg2")}
"""What fetching and checking a signing key needs."""
RUNTIME = {
    "deb": ("cri-o", "iptables", "containernetworking-plugins"),
    "rpm": ("cri-o", "iptables-nft", "containernetworking-plugins"),
}
"""CRI-O with what its package only recommends; runtimes and monitors are in the package."""
BINARY = {
    "deb": ("runc", "conmon", "iptables", "containernetworking-plugins", "libseccomp2"),
    "rpm": ("runc", "conmon", "iptables-nft", "containernetworking-plugins", "libseccomp"),
}
"""What a CRI-O without its package runs with."""
_VERSION = re.compile(rb"version:?\s+v?(\d+)\.(\d+)", re.IGNORECASE)


def steps(node: Node, kubernetes: bool = False) -> list[Step]:
    """Return the steps that install CRI-O from its official repository and start it.

    Args:
        node: the machine; it is asked for its distribution.
        kubernetes: also make it a cluster of one node, by kubeadm.

    Raises:
        MissingError: the distribution is not supported.
    """
    family = distribution(node).family
    found: list[Step] = [Installed(node, family, BEFORE[family]), *repository.steps(node, repository.CRIO, family)]
    if kubernetes:
        found += repository.steps(node, repository.KUBERNETES, family)
    found += [Installed(node, family, RUNTIME[family], held=True), NewEnough(node), *_network(node)]
    found.append(UnitRuns(node, UNIT, inputs=[f"{CONFIG}/05-plugins.conf"]))
    return [*found, *clusters.steps(node, family)] if kubernetes else found


def binary_steps(node: Node, crio: Path) -> list[Step]:
    """Return the steps that put a CRI-O of this host on a machine and start it.

    Args:
        node: the machine; what CRI-O runs with is installed there too, and so it is asked for its distribution.
        crio: the program; ``pinns`` lies beside it.

    Raises:
        MissingError: a program is missing here, or too old.
    """
    pinns = crio.parent / "pinns"
    for program in (crio, pinns):
        if not program.is_file():
            raise MissingError(
                "there is no such file", where=str(program), do="name a crio with pinns beside it (CRIO_BIN)"
            )
    require_version(HOST, str(crio))
    family = distribution(node).family
    config = f"{CONFIG}/05-binary.conf"
    return [
        Installed(node, family, BINARY[family]),
        File(node, "/usr/local/bin/pinns", pinns, 0o755),
        File(node, "/usr/local/bin/crio", crio, 0o755),
        *_network(node),
        File(node, config, FILES / "05-binary.conf"),
        File(node, f"/etc/systemd/system/{UNIT}", FILES / "crio.service"),
        UnitRuns(node, UNIT, inputs=["/usr/local/bin/crio", config, f"{CONFIG}/05-plugins.conf"]),
    ]


@dataclass(frozen=True)
class NewEnough:
    """A step that only looks: the machine's CRI-O is not older than what enforcement needs."""

    node: Node
    program: str = "crio"

    @property
    def name(self) -> str:
        """What users read."""
        return f"CRI-O is {_text(OLDEST)} or newer"

    def needed(self) -> bool:
        """Return whether it is not there yet, or too old."""
        try:
            require_version(self.node, self.program)
        except (MissingError, InfrastructureError):
            return True
        return False

    def apply(self) -> None:
        """Say what is wrong. Raises MissingError."""
        require_version(self.node, self.program)


def require_version(node: Node, program: str = "crio") -> tuple[int, int]:
    """Return the version (major, minor) of a node's CRI-O.

    Raises:
        MissingError: it is not there, or older than `OLDEST`.
        InfrastructureError: it does not say its version.
    """
    said = node.run([program, "--version"])
    match = _VERSION.search(said.stdout + said.stderr)
    if not match:
        raise InfrastructureError("does not say its version", where=f"{node.name}: {program}")
    version = int(match[1]), int(match[2])
    if version < OLDEST:
        raise MissingError(
            f"CRI-O is {_text(version)}",
            where=f"{node.name}: {program}",
            expected=f"{_text(OLDEST)} or newer, which can demand an NRI plugin",
            do="install a newer one",
        )
    return version


def _network(node: Node) -> list[Step]:
    return [
        Folder(node, CONFIG),
        Folder(node, NETWORK),
        File(node, f"{CONFIG}/05-plugins.conf", FILES / "05-plugins.conf"),
        File(node, f"{NETWORK}/11-countersign-bridge.conflist", FILES / "11-countersign-bridge.conflist"),
        Folder(node, LINKS),
        File(node, f"{LINKS}/11-countersign-veth.link", FILES / "11-countersign-veth.link"),
    ]


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
