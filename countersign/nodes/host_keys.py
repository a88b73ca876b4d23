"""Which host keys a machine may show (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); none is ever taken on trust by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, MissingError

if TYPE_CHECKING:
    from paramiko import HostKeys, PKey, SSHClient

USERS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEMS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
SSH_PORT = 22


@dataclass(frozen=True)
class Known:
    """The keys by which one machine is known.

    Attributes:
        names: under which known_hosts has it, such as ``[192.0.2.7]:2222``.
        keys: what was read.
        revoked: keys, in base64, that no machine may show.
        pins: a file of ours to which the key of a machine that has none yet is added; None: it is refused.
    """

    names: tuple[str, ...]
    keys: HostKeys = field(repr=False)
    revoked: frozenset[str] = field(repr=False)
    pins: Path | None = None

    def guard(self, client: SSHClient, host: str, port: int) -> None:
        """Make a client accept these keys and no others."""
        from paramiko.transport import Transport

        supported = set(Transport._key_info)  # noqa: SLF001 - a type it cannot read must not be asked for
        for name in self.names:
            for kind, key in (self.keys.lookup(name) or {}).items():
                if kind in supported and key.get_base64() not in self.revoked:
                    client.get_host_keys().add(written(host, port), kind, key)
        client.set_missing_host_key_policy(_Refuse(self))


class _Refuse:
    """Paramiko's policy for a machine without a known key."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        """Pin the key where that is wanted, else refuse it.

        Raises:
            MissingError: the machine is not known.
        """
        known = self._known
        if known.pins is not None and key.get_base64() not in known.revoked:
            client.get_host_keys().add(hostname, key.get_name(), key)
            known.pins.parent.mkdir(parents=True, exist_ok=True)
            with known.pins.open("a", encoding="utf-8") as file:
                file.write(f"{known.names[0]} {key.get_name()} {key.get_base64()}\n")
            return
        raise MissingError(
            f"its host key is not known: {key.get_name()} {key.fingerprint}",
            where=known.names[0],
            expected="one in known_hosts",
            do="compare it with what that machine says of itself (ssh-keygen -lf), then connect once with ssh",
        )


def known(host: str, port: int, ssh_config: Mapping[str, Any], pins: Path | None = None) -> Known:
    """Return what is known of a machine.

    Args:
        host: as it is connected to.
        port: of its sshd.
        ssh_config: what ssh_config(5) says of it, keys in lower case: ``UserKnownHostsFile``,
            ``GlobalKnownHostsFile`` and ``HostKeyAlias`` are followed.
        pins: see `Known.pins`; read as well.
    """
    alias = str(ssh_config.get("hostkeyalias") or "")
    names = (alias,) if alias else (written(host, port),)
    files = [*_paths(ssh_config, "userknownhostsfile", USERS), *_paths(ssh_config, "globalknownhostsfile", SYSTEMS)]
    keys, revoked = _read([*files, *([pins] if pins else [])])
    return Known(names, keys, revoked, pins)


def wrong_key(where: str, got: PKey, expected: PKey) -> InfrastructureError:
    """Return the error for a machine that shows another key than the known one."""
    return InfrastructureError(
        f"its host key is not the known one: got {got.get_name()} {got.fingerprint}",
        where=where,
        expected=f"{expected.get_name()} {expected.fingerprint}",
        do="find out why before anything else; if the machine was made anew, remove the old key with ssh-keygen -R",
    )


def written(host: str, port: int) -> str:
    """Return a machine's name as known_hosts has it."""
    return host if port == SSH_PORT else f"[{host}]:{port}"


def _paths(ssh_config: Mapping[str, Any], key: str, default: Sequence[str]) -> list[Path]:
    given = ssh_config.get(key)
    return [Path(path.strip('"')).expanduser() for path in (str(given).split() if given else default)]


def _read(files: Iterable[Path]) -> tuple[HostKeys, frozenset[str]]:
    """Return the keys of all files that there are, and those marked as revoked; marked authorities are left out."""
    from paramiko.hostkeys import HostKeyEntry, HostKeys

    keys, revoked = HostKeys(), set()
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if not fields or fields[0].startswith("#"):
                continue
            if fields[0] == "@revoked":
                revoked.update(fields[3:4])
            elif not fields[0].startswith("@"):
                _add(keys, HostKeyEntry, line.strip())
    return keys, frozenset(revoked)


def _add(keys: HostKeys, entry: Any, line: str) -> None:
    """Add a line; one that cannot be read makes no machine known."""
    from paramiko import SSHException

    try:
        found = entry.from_line(line)
    except (SSHException, ValueError):
        return
    if found is not None:
        for name in found.hostnames:
            keys.add(name, found.key.get_name(), found.key)
