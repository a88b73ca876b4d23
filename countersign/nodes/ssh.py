"""The node that is a machine over SSH (RFC 4252 to 4254), as its root: one connection, kept open, serves everything."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, MissingError, cause
from countersign.nodes import channel as channels
from countersign.nodes.channel import Late, Lost, pump, talk
from countersign.nodes.files import Content
from countersign.nodes.link import OUTPUT_LIMIT, Link, line, probed
from countersign.nodes.node import CommandError, Result
from countersign.nodes.placing import place, put_one

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel

FILE_LIMIT = 64 << 20
KILLED = 128 + 9
NOT_FOUND = 127
GRACE = 15.0
"""Seconds that a machine may take beyond the time of the command itself."""
AT_ONCE = 6
"""Commands at the same time; sshd_config(5) allows 10 sessions, and each relayed socket is one."""
ALIVE = 15
"""Seconds between the messages that keep a silent connection open."""
RELAYS = {
    "perl": ("perl", "-e", Path(__file__).with_name("relay.pl")),
    "python3": ("python3", "-c", Path(__file__).with_name("relay_socket.py")),
}
PAUSES = (0.0, 0.3, 0.7)
"""Seconds before a port of the machine is asked for again: an earlier connection's becomes free only after its end."""


class SshNode:
    """A machine over SSH; see `countersign.nodes.node.Node`. Threads may share it; close it, or let the process end."""

    def __init__(self, name: str, connect: Callable[[], Connection], password: str = "") -> None:
        """Take it as a node; the connection is made when it is first needed.

        Args:
            name: how users call it.
            connect: returns an open connection to the machine, whose host key was checked, or raises our errors.
            password: for sudo, where it wants one.
        """
        self.name = name
        self._connect = connect
        self._password = password
        self._lock = threading.RLock()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._current: Link | None = None
        self._exposed: dict[int, int] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        """Return its name alone: it knows a password."""
        return f"SshNode({self.name!r})"

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - subprocess' own word
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """See `Node.run`."""
        result = self._run(tuple(argv), input, timeout, env or {}, OUTPUT_LIMIT)
        if check and result.code != 0:
            raise CommandError(result, self.name)
        return result

    def _run(self, argv: tuple[str, ...], stdin: bytes, timeout: float, env: Mapping[str, str], limit: int) -> Result:
        start = time.monotonic()
        late = f"did not end within {timeout:g} s"
        link = self._link()
        command = line(link, ("timeout", "--signal=KILL", f"{timeout:g}", *argv), env)
        with self._slots, self._errors(argv[0]):
            try:
                code, stdout, stderr = talk(link.transport, command, link.secret + stdin, timeout + GRACE, limit)
            except Late as error:
                stdout, stderr = error.args
                raise CommandError(
                    Result(argv, -9, stdout, stderr, time.monotonic() - start), self.name, late
                ) from None
        result = Result(argv, code, stdout, stderr, time.monotonic() - start)
        if code == KILLED and result.seconds >= timeout:
            raise CommandError(result, self.name, late)
        if code == NOT_FOUND and stderr.startswith(b"timeout:") and b"No such file or directory" in stderr:
            raise MissingError("is not on this node", where=f"{self.name}: {argv[0]}")
        return result

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        """See `Node.put`."""
        return put_one(self, Content(content, path, mode, owner))

    def put_all(self, files: Sequence[Content]) -> None:
        """See `countersign.nodes.files.TakesMany.put_all`."""
        place(self, files)

    def get(self, path: str) -> bytes:
        """See `Node.get`."""
        result = self._run(("head", "-c", str(FILE_LIMIT + 1), "--", path), b"", 120, {}, FILE_LIMIT + 1)
        if result.code:
            raise CommandError(result, self.name)
        if len(result.stdout) > FILE_LIMIT:
            raise InfrastructureError("is larger than 64 MiB", where=f"{self.name}: {path}")
        return result.stdout

    def exists(self, path: str) -> bool:
        """See `Node.exists`."""
        return self.run(["test", "-e", path, "-o", "-L", path], check=False).code == 0

    def forward(self, socket: str) -> str:
        """See `Node.forward`: a socket in a folder of ours, each connection of which is relayed to the machine's.

        A program there does the relaying as root: sshd itself could open only what the user may who logged in.

        Raises:
            MissingError: the machine has no program that can.
        """
        relays = self._link().relays
        if not any(name in relays for name in RELAYS):
            raise MissingError(
                "has nothing to relay a unix socket with", where=self.name, expected="perl or python3", do="install one"
            )
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="countersign-ssh-")
            path = f"{self._folder.name}/{len(self._listeners)}.sock"
            if socket not in self._listeners:
                self._listeners[socket] = self._listen(path, socket)
            return f"unix:{self._listeners[socket].getsockname()}"

    def expose(self, port: int) -> str:
        """See `Node.expose`: a port of the machine's own loopback, of the same number where that is free there.

        It is there as long as this node is open; after a lost connection it comes back with the next command.

        Raises:
            InfrastructureError: the machine's sshd does not allow it.
        """
        link = self._link()
        with self._lock, self._errors(f"port {port}"):
            known = next((there for there, here in self._exposed.items() if here == port), 0)
            there = known or self._request(link, port, may_differ=True)
            self._exposed[there] = port
        return f"http://127.0.0.1:{there}"

    def close(self) -> None:
        """End the connection, and with it all that was forwarded and exposed."""
        with self._lock:
            for listener in self._listeners.values():
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
                listener.close()
            self._listeners.clear()
            self._exposed.clear()
            if self._folder:
                self._folder.cleanup()
                self._folder = None
            if self._current:
                self._current.connection.close()
                self._current = None

    def _link(self) -> Link:
        """Return the connection; one that was lost is made anew, with what was exposed over it."""
        with self._lock:
            if self._current is not None and self._current.transport.is_active():
                return self._current
            if self._current is not None:
                self._current.connection.close()
                self._current = None
            connection = self._connect()
            try:
                connection.transport.set_keepalive(ALIVE)
                with self._errors("connection"):
                    link = probed(connection, self.name, self._password)
                    for there in self._exposed:
                        self._request(link, there, may_differ=False)
            except BaseException:
                connection.close()
                raise
            self._current = link
            return link

    def _listen(self, path: str, target: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(16)
        threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket, target: str) -> None:
        while True:
            try:
                local, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._relay, args=(local, target), daemon=True).start()

    def _relay(self, local: socket.socket, target: str) -> None:
        """Relay one connection; one that fails is closed, and whoever made it sees that."""
        from paramiko import SSHException

        try:
            link = self._link()
            program, option, code = RELAYS[next(name for name in RELAYS if name in link.relays)]
            command = line(link, (program, option, code.read_text(encoding="utf-8"), target), {})
            channel = link.transport.open_session(timeout=channels.OPEN_WITHIN)
            channel.exec_command(command)
            channel.sendall(link.secret)
        except (SSHException, EOFError, OSError, InfrastructureError, MissingError):
            local.close()
            return
        pump(local, channel)

    def _request(self, link: Link, port: int, *, may_differ: bool) -> int:
        """Have the machine's sshd listen for us, and return its port.

        Raises:
            InfrastructureError: it does not.
        """
        for pause in PAUSES:
            time.sleep(pause)
            if found := self._try_port(link, port):
                return found
        if may_differ and (found := self._try_port(link, 0)):
            return found
        raise InfrastructureError(
            f"its sshd does not let us listen on port {port} of its loopback",
            where=self.name,
            do="allow it there (AllowTcpForwarding yes in sshd_config), or free the port",
        )

    def _try_port(self, link: Link, port: int) -> int:
        """Return the port on which the machine's sshd listens now, or 0 when it refuses."""
        from paramiko import SSHException

        try:
            return int(link.transport.request_port_forward("127.0.0.1", port, self._arrived))
        except SSHException:
            if not link.transport.is_active():
                raise
            return 0

    def _arrived(self, channel: Channel, _origin: tuple[str, int], server: tuple[str, int]) -> None:
        """Take a connection to an exposed port; called in paramiko's own thread, which must not wait."""
        threading.Thread(target=self._deliver, args=(channel, server[1]), daemon=True).start()

    def _deliver(self, channel: Channel, there: int) -> None:
        port = self._exposed.get(there)
        try:
            local = socket.create_connection(("127.0.0.1", port or 0), timeout=channels.OPEN_WITHIN)
        except OSError:
            channel.close()
            return
        local.settimeout(None)
        pump(local, channel)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn what breaks a connection into one line of ours."""
        from paramiko import SSHException

        try:
            yield
        except Late:
            raise InfrastructureError("does not answer", where=f"{self.name}: {what}") from None
        except (Lost, SSHException, EOFError, OSError) as error:
            why = f" ({cause(error)})" if str(error) and not isinstance(error, Lost) else ""
            raise InfrastructureError(
                f"the connection was lost{why}", where=f"{self.name}: {what}", do="run it again"
            ) from None
