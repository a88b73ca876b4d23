"""Machines over SSH, opened: ``ssh://[user@]host[:port]`` and ssh_config(5) say how, Fabric connects."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countersign.console.errors import InfrastructureError, MissingError, UsageError, cause
from countersign.nodes import host_keys
from countersign.nodes.ssh import SshNode

if TYPE_CHECKING:
    from fabric import Config, Connection

    from countersign.console.config import Settings

CONNECT_WITHIN = 15
LOGGED_IN_WITHIN = 60
"""Seconds for sshd's greeting, and for its answer to our key: an emulated machine takes several for each."""
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]*")
EXPECTED = "ssh://[USER@]HOST[:PORT]"


def ssh(url: str, settings: Settings) -> SshNode:
    """Return the machine that a URL names; it is connected to when it is first used.

    ``~/.ssh/config`` may say more about the host; what the URL says wins.

    Raises:
        UsageError: it is not such a URL.
    """
    user, host, port = parse(url)

    def connect() -> Connection:
        from fabric import Connection

        made = Connection(host, user=user or None, port=port or None, config=_config(None))
        return _open(made, host, None)

    return SshNode(f"{host}:{port}" if port else host, connect, settings.sudo_password)


def from_config(alias: str, path: Path, settings: Settings | None = None) -> SshNode:
    """Return the machine that an ssh-config of its own describes, such as ``vagrant ssh-config`` writes one.

    Where that file says ``StrictHostKeyChecking no`` and ``UserKnownHostsFile /dev/null``, whoever wrote it has
    just made the machine: its key is then kept in ``known_hosts`` beside the file when it is first met, and
    checked from then on. Whoever makes the machine anew removes that file.

    Args:
        alias: its ``Host`` there.
        path: the file.
        settings: for sudo's password.
    """

    def connect() -> Connection:
        from fabric import Connection

        made = Connection(alias, config=_config(path))
        strict = str(made.ssh_config.get("stricthostkeychecking", "")).lower()
        kept = made.ssh_config.get("userknownhostsfile") == "/dev/null" and strict in {"no", "off", "accept-new"}
        return _open(made, alias, path.with_name("known_hosts") if kept else None)

    return SshNode(alias, connect, settings.sudo_password if settings else "")


def parse(url: str) -> tuple[str, str, int]:
    """Return user, host and port of a URL; user and port may be empty and 0.

    Raises:
        UsageError: it is not an ``ssh://[user@]host[:port]``; a password in it is refused as well.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError as error:
        raise UsageError(f"got {url!r} ({error})", where="node", expected=EXPECTED) from None
    if parts.password is not None:
        raise UsageError("the URL has a password in it", where="node", expected=EXPECTED, do="use a key")
    user = parts.username or ""
    strange = parts.scheme != "ssh" or parts.path not in ("", "/") or parts.query or parts.fragment
    if strange or not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)) or parts.netloc.endswith(":"):
        raise UsageError(f"got {url!r}", where="node", expected=EXPECTED)
    written = parts.netloc.rpartition("@")[2].removesuffix(f":{port}").strip("[]")
    return user, written, port


def address(url: str) -> tuple[str, ...]:
    """Return where a URL leads by ``~/.ssh/config``: host, port, and the way there; the user makes no other machine.

    Raises:
        UsageError: it is not such a URL.
    """
    from fabric import Connection

    _, host, port = parse(url)
    made = Connection(host, port=port or None, config=_config(None))
    way = (str(made.ssh_config.get(option, "")) for option in ("proxyjump", "proxycommand"))
    return (str(made.host).rstrip(".").lower(), str(made.port), *way)


def _config(path: Path | None) -> Config:
    from fabric import Config

    return Config(runtime_ssh_path=str(path)) if path else Config()


def _open(connection: Connection, name: str, pins: Path | None) -> Connection:
    """Open a connection whose host keys are checked, those of jump hosts too.

    Raises:
        MissingError: its host key is not known, or it lets none of our keys in.
        InfrastructureError: it shows another key, or cannot be reached.
    """
    from fabric import Connection
    from paramiko import AuthenticationException, BadHostKeyException, SSHException

    link: Any = connection
    while isinstance(link, Connection):
        host_keys.known(link.host, link.port, link.ssh_config, pins if link is connection else None).guard(
            link.client, link.host, link.port
        )
        link = link.gateway
    where = f"{connection.user}@{host_keys.written(connection.host, connection.port)}"
    connection.connect_kwargs.setdefault("banner_timeout", LOGGED_IN_WITHIN)
    connection.connect_kwargs.setdefault("auth_timeout", LOGGED_IN_WITHIN)
    connection.connect_timeout = connection.connect_timeout or CONNECT_WITHIN
    if str(connection.ssh_config.get("identitiesonly", "")).lower() == "yes":
        connection.connect_kwargs.update(look_for_keys=False, allow_agent=False)
    try:
        connection.open()
    except BadHostKeyException as error:
        connection.close()
        raise host_keys.wrong_key(where, error.key, error.expected_key) from None
    except AuthenticationException as error:
        connection.close()
        raise MissingError(
            f"lets none of our keys in ({error})",
            where=where,
            do=f"make `ssh {name}` work, with an agent or a key file",
        ) from None
    except (socket.gaierror, TimeoutError) as error:
        raise InfrastructureError(f"cannot be reached ({cause(error) or 'timed out'})", where=where) from None
    except (SSHException, EOFError, OSError) as error:
        connection.close()
        raise InfrastructureError(f"cannot be reached ({cause(error) or 'it hung up'})", where=where) from None
    except BaseException:
        connection.close()
        raise
    return connection
