"""Where a machine's things lie on this host, and what was recorded when it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError


@dataclass(frozen=True)
class Made:
    """What a machine was made as; what it is destroyed and reached by.

    Attributes:
        provider: ``libvirt``, ``virtualbox`` or ``lxc``.
        box: as Vagrant calls it.
        built: it is the built box, which Vagrant is given from the cache.
        distribution: that the box was chosen by.
        memory: MiB.
        cpus: of a virtual machine.
        bridge: of lxc, ours or one that was there.
        subnet: of a bridge of ours, such as ``10.98.7``; empty for one that was there.
        libvirtd: it runs in a libvirtd of ours.
    """

    provider: str
    box: str
    built: bool
    distribution: str
    memory: int
    cpus: int
    bridge: str = ""
    subnet: str = ""
    libvirtd: bool = False


@dataclass(frozen=True)
class Place:
    """One machine of one state folder.

    Attributes:
        name: the machine's.
        folder: everything about it.
    """

    name: str
    folder: Path

    @property
    def tag(self) -> str:
        """Six digits that tell it from machines of other folders."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]

    @property
    def guest(self) -> str:
        """What the provider calls it."""
        return f"{self.name}-{self.tag}"

    @property
    def bridge(self) -> str:
        """The interface that is ours, for lxc; 15 characters are the most (IFNAMSIZ)."""
        return f"cs-vm-{self.tag}"

    @property
    def run(self) -> Path:
        """Where our services keep what they need."""
        return self.folder / "run"

    @property
    def log(self) -> Path:
        """What Vagrant wrote."""
        return self.folder / "vagrant.log"

    @property
    def console(self) -> Path:
        """What a virtual machine of our own libvirtd wrote to its serial console."""
        return self.folder / "console.log"

    @property
    def ssh_config(self) -> Path:
        """How it is reached, with its host keys beside it."""
        return self.folder / "ssh-config"

    @property
    def known_hosts(self) -> Path:
        """Its host keys."""
        return self.folder / "known_hosts"

    def made(self) -> Made | None:
        """Return what it was made as, or None when there is no such machine."""
        try:
            return Made(**json.loads((self.folder / "made.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as error:
            raise InfrastructureError(f"cannot be read ({error})", where=str(self.folder / "made.json")) from None

    def record(self, made: Made) -> None:
        """Write down what it is made as; before anything is made."""
        self.run.mkdir(parents=True, exist_ok=True)
        part = self.folder / ".made.json"
        part.write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
        part.replace(self.folder / "made.json")

    def environment(self, made: Made, extra: Mapping[str, str]) -> dict[str, str]:
        """Return what the Vagrantfile reads, beyond the process' own environment."""
        return {
            "VAGRANT_DOTFILE_PATH": str(self.folder / "dotfile"),
            "VAGRANT_NO_COLOR": "1",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "COUNTERSIGN_MACHINE": self.name,
            "COUNTERSIGN_GUEST": self.guest,
            "COUNTERSIGN_DISTRIBUTION": made.distribution,
            "COUNTERSIGN_BOX": made.box,
            "COUNTERSIGN_MEMORY": str(made.memory),
            "COUNTERSIGN_CPUS": str(made.cpus),
            "COUNTERSIGN_BRIDGE": made.bridge,
            "VAGRANT_DEFAULT_PROVIDER": made.provider,
            **extra,
        }


def place(settings: Settings) -> Place:
    """Return the place of the machine that the settings name."""
    return Place(settings.vagrant.machine, settings.state / "vagrant" / settings.vagrant.machine)
