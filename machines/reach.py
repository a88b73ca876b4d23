"""How a machine is reached that Vagrant made: its ssh-config, with the host keys that count."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from machines import program
from machines.place import Made, Place

REACH_WITHIN = 2.0


@dataclass(frozen=True)
class Reachable:
    """A step: the machine's ssh-config and host keys are here."""

    settings: Settings
    here: Place
    made: Made

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.here.ssh_config.name} of {self.here.name}"

    def needed(self) -> bool:
        """Return whether there is none, or it leads nowhere."""
        return not (self.here.ssh_config.is_file() and answers(self.here.ssh_config))

    def apply(self) -> None:
        """Write both.

        Vagrant has just logged in with the key that it put there; the host keys that the machine shows in that same
        session are the ones that count from here on.
        """
        vagrant = program.client(self.settings, self.here, self.made)
        with program.errors(self.here):
            said = vagrant.ssh_config(vm_name=self.here.name)
            keys = vagrant.ssh(vm_name=self.here.name, command="cat /etc/ssh/ssh_host_*_key.pub")
        options = _options(said)
        host, port = options["HostName"], options.get("Port", "22")
        host = host if port == "22" else f"[{host}]:{port}"  # sshd(8), SSH_KNOWN_HOSTS FILE FORMAT
        lines = [line.split()[:2] for line in keys.splitlines() if len(line.split()) > 1]
        if not lines:
            raise InfrastructureError("shows no host keys", where=self.here.name)
        self.here.known_hosts.write_text("".join(f"{host} {kind} {key}\n" for kind, key in lines))
        options |= {"UserKnownHostsFile": str(self.here.known_hosts), "StrictHostKeyChecking": "yes"}
        body = "".join(f"  {key} {_quoted(value)}\n" for key, value in options.items() if key != "Host")
        self.here.ssh_config.write_text(f"Host {self.here.name}\n{body}")
        self.here.ssh_config.chmod(0o600)


def _options(text: str) -> dict[str, str]:
    """Return the options of a Host section of ssh_config(5)."""
    pairs = [line.strip().split(None, 1) for line in text.splitlines()]
    return {pair[0]: pair[1].strip().strip('"') for pair in pairs if len(pair) == 2}  # noqa: PLR2004 - a pair


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def answers(config: Path) -> bool:
    """Return whether something listens where an ssh-config leads."""
    options = _options(config.read_text(encoding="utf-8"))
    try:
        address = (options["HostName"], int(options.get("Port", "22")))
        with socket.create_connection(address, timeout=REACH_WITHIN):
            return True
    except (OSError, KeyError, ValueError):
        return False
