"""The steps that take us off a CRI-O with the usual paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import ACTIVE, GATE, SYSTEMD
from countersign.nodes.steps import unmade
from countersign.nodes.systemd import unit_state
from crio.credentials import Credentials
from crio.paths import INSTALLED
from crio.runtime import UNIT as CRIO

if TYPE_CHECKING:
    from countersign.nodes.node import Node


@dataclass(frozen=True)
class Restored:
    """CRI-O runs as it did before, and nothing of ours is left on the node.

    Attributes:
        names: of registries that the node may have been led to.
        urls: of those that it was led to now, by name.
    """

    node: Node
    names: Sequence[str] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    name: str = "CRI-O is as it was"

    def _paths(self) -> list[str]:
        layout, paths = SYSTEM, INSTALLED
        certs = [f"{layout.certs}/{name}" for name in self.names]
        cas = [f"{paths.certs}/{url.partition('://')[2]}" for url in self.urls.values() if url.startswith("https:")]
        units = [f"{SYSTEMD}/{GATE}", f"{SYSTEMD}/{GATE}.d"]
        programs = [layout.gate, layout.hook, layout.verifier]
        folders = [layout.etc, layout.lib, layout.run, layout.log]
        demo = paths.demo_registries_d
        return [
            paths.drop_in,
            paths.registries_conf,
            paths.registries_d,
            demo,
            *programs,
            *units,
            *certs,
            *cas,
            *folders,
        ]

    def needed(self) -> bool:
        """Return whether anything of ours is there."""
        found = self.node.run(["ls", "-d", "--", *self._paths()], check=False)
        return bool(found.text) or (bool(self.urls) and Credentials(self.node, SYSTEM, INSTALLED.auth, {}).needed())

    def apply(self) -> None:
        """Take CRI-O's configuration away first: without it CRI-O needs none of the rest."""
        running = unit_state(self.node, CRIO).active == ACTIVE
        self.node.run(["rm", "-f", "--", INSTALLED.drop_in])
        if running:
            self.node.run(["systemctl", "restart", CRIO], timeout=120)
        self.node.run(["systemctl", "disable", "--now", GATE], check=False)
        if self.urls:  # else what is there is the user's own, a registry on the machine's loopback included
            Credentials(self.node, SYSTEM, INSTALLED.auth, {}).apply()
        made = unmade(self.node, SYSTEM.folders_made)
        self.node.run(["rm", "-rf", "--", *self._paths()])
        if made:
            self.node.run(["rmdir", "--ignore-fail-on-non-empty", "--", *made], check=False)
        self.node.run(["systemctl", "daemon-reload"])


@dataclass(frozen=True)
class ImagesRemoved:
    """The machine has no image of a lab's registries, except a sandbox image in use."""

    node: Node
    hosts: Sequence[str]
    name: str = "the demo's images are removed"

    def needed(self) -> bool:
        """Return whether it has one; a CRI-O that does not answer is asked nothing."""
        return bool(self._found())

    def apply(self) -> None:
        """Remove them over CRI."""
        from countersign.cri.client import Client

        with Client(self.node.forward(INSTALLED.socket)) as client:
            for image in self._found():
                client.remove_image(image)

    def _found(self) -> list[str]:
        from countersign.cri.client import Client
        from countersign.cri.errors import CriError

        if unit_state(self.node, CRIO).active != ACTIVE:
            return []
        try:
            with Client(self.node.forward(INSTALLED.socket), timeout=10) as client:
                return [
                    image.id
                    for image in client.list_images()
                    if any(name.startswith(f"{host}/") for name in (*image.tags, *image.digests) for host in self.hosts)
                ]
        except CriError:
            return []
