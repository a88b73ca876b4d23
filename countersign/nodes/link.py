"""An open connection over SSH as its machine's root: how to be that, and how a command is written for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes.channel import talk

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Transport

OUTPUT_LIMIT = 1 << 20
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROBE = Path(__file__).with_name("probe.sh")


@dataclass(frozen=True)
class Link:
    """An open connection.

    Attributes:
        connection: Fabric's.
        become: what stands before a command to run it as root.
        secret: what sudo reads from stdin before the command does.
        relays: the programs that can relay a socket.
    """

    connection: Connection
    become: tuple[str, ...]
    secret: bytes = field(repr=False)
    relays: tuple[str, ...]

    @property
    def transport(self) -> Transport:
        """Paramiko's."""
        return self.connection.transport


def probed(connection: Connection, name: str, password: str) -> Link:
    """Find out how to be root on a machine.

    Args:
        connection: to it, open.
        name: how users call it.
        password: for sudo, where it wants one.

    Raises:
        MissingError: there is no way.
    """
    probe = shlex.join(["sh", "-c", PROBE.read_text(encoding="utf-8")])
    _, stdout, stderr = talk(connection.transport, f"PATH={PATH} {probe}", b"", 30, OUTPUT_LIMIT)
    kind, *relays = stdout.decode(errors="replace").split() or [""]
    user = relays.pop() if relays else "?"
    if kind == "root":
        return Link(connection, (), b"", tuple(relays))
    if kind == "free":
        return Link(connection, ("sudo", "-n", "--"), b"", tuple(relays))
    if kind == "none":
        raise MissingError(
            f"{user} is not root, and there is no sudo", where=name, do="install sudo, or log in as root"
        )
    if kind != "asks":
        why = stderr.decode(errors="replace").strip()
        raise InfrastructureError(f"gives no shell that we can use ({why})", where=name)
    if not password:
        raise MissingError(
            f"sudo does not let {user} without a password",
            where=name,
            do="give it in INVOKE_SUDO_PASSWORD, allow it without, or log in as root",
        )
    # -k: a password that sudo remembers would leave ours for the command to read
    become = ("sudo", "-k", "-S", "-p", "", "--")
    secret = f"{password}\n".encode()
    code, _, stderr = talk(connection.transport, shlex.join([*become, "env", "true"]), secret, 30, OUTPUT_LIMIT)
    if code:
        why = stderr.decode(errors="replace").strip() or f"exit code {code}"
        raise MissingError(
            f"sudo refuses {user} with the password given ({why})",
            where=name,
            do="fix INVOKE_SUDO_PASSWORD or that machine's sudoers",
        )
    return Link(connection, become, secret, tuple(relays))


def line(link: Link, argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Return a command line for the user's shell there: the one place that quotes.

    The shell stays until the end, so that a command that a signal ends has an exit code too.
    """
    settings = [f"{name}={value}" for name, value in {"PATH": PATH, "LC_ALL": "C.UTF-8", **env}.items()]
    return f"{shlex.join([*link.become, 'env', '--', *settings, *argv])}; exit $?"
