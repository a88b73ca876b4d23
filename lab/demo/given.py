"""What all places are given alike: see `countersign.enforcement.additions.Addition`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from countersign.console.config import Settings
from countersign.console.steps import Step
from countersign.cri.model import Auth
from countersign.enforcement.additions import Addition
from countersign.oci.registry import Registry
from lab.demo import images
from lab.demo.keys import KeyPair
from lab.demo.registries import REFERRERS, SERVICES, Registries

PAUSE = f"{REFERRERS}/system/pause"
PAUSE_TAG = "countersign"
TOOLS = (*SERVICES.values(), "pause", "demo")
"""The registries' programs, named as their services are, and images; all of them are built when one is asked for."""


@dataclass(frozen=True)
class Given(Addition, ABC):
    """The demo at one place.

    Attributes:
        made: the registries' credentials and certificates; nothing is written before a step does it.
    """

    settings: Settings
    made: Registries = field(repr=False)
    home = REFERRERS
    services = tuple(SERVICES.values())

    @property
    @abstractmethod
    def etc(self) -> Path:
        """Where this machine's own way to the registries lies: ``certs.d`` and ``docker.json``."""

    @abstractmethod
    def up(self) -> bool:
        """Return whether the registry that images go to runs."""

    @property
    def ca(self) -> bytes:
        """See `Addition.ca`."""
        return self.made.identity.ca

    @property
    def logins(self) -> Mapping[str, Auth]:
        """See `Addition.logins`."""
        return self.made.logins

    @property
    def keys(self) -> KeyPair:
        """The demo's key pair."""
        return KeyPair(self.settings.keys)

    def keys_to_come(self) -> bool:
        """See `Addition.keys_to_come`."""
        return self.keys.needed()

    def sandbox(self) -> str:
        """See `Addition.sandbox`."""
        return f"{PAUSE}@{images.digest(self._pause())}"

    def client(self) -> Registry:
        """See `Addition.client`."""
        from countersign.oci.registry import Registry

        allow_http = self.settings.registry.allow_http
        return Registry(self.etc / "certs.d", self.etc / "docker.json", allow_http=allow_http)

    def pushed(self, repository: str, tag: str, layout: Path) -> Step:
        """See `Addition.pushed`."""
        return images.Pushed(self.client, repository, tag, layout, self.up)

    def pushes(self) -> list[Step]:
        """Return the steps by which the registry has what set-up needs."""
        return [self.pushed(PAUSE, PAUSE_TAG, self._pause())]

    def _pause(self) -> Path:
        from countersign.tools.images import pause_layout

        return pause_layout(self.settings)
