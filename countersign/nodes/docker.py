"""The node that is a container with an init system, such as a node of Kind: everything goes by ``docker exec``."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes.files import Content
from countersign.nodes.node import CommandError, Result
from countersign.nodes.placing import place, put_one
from countersign.nodes.shell import PROGRAM, Shell, Shells

if TYPE_CHECKING:
    from docker import DockerClient

OUTPUT_LIMIT = 1 << 20
FILE_LIMIT = 64 << 20
CHUNK = 1 << 16
KILLED = 128 + 9
NOT_FOUND = 127
GRACE = 15.0
"""Seconds that the engine may take beyond the time of the command itself."""


@dataclass(frozen=True)
class DockerNode:
    """A container, as its root; see `countersign.nodes.node.Node`.

    Attributes:
        container: its name or ID.
        name: how users call the node.
        client: opens a client of the Docker Engine.
        shells: stay open for commands that read nothing.
    """

    container: str
    name: str
    client: Callable[[], DockerClient] = field(repr=False)
    shells: Shells = field(default_factory=Shells, repr=False, compare=False)

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
        bounded = ["timeout", "--signal=KILL", f"{timeout:g}", *argv]
        with self._errors(argv[0]):
            if stdin:
                stdout, stderr, code = _exec(self.client(), self.container, bounded, stdin, env, timeout + GRACE, limit)
            else:
                with self.shells.one(self._shell) as shell:
                    stdout, stderr, code = shell.run(bounded, env, timeout + GRACE, limit)
        result = Result(argv, code, stdout, stderr, time.monotonic() - start)
        if code == KILLED and result.seconds >= timeout:
            raise CommandError(result, self.name, f"did not end within {timeout:g} s")
        if code == NOT_FOUND and b"No such file or directory" in stderr and stderr.startswith(b"timeout:"):
            raise MissingError("is not on this node", where=f"{self.name}: {argv[0]}")
        return result

    def _shell(self) -> Shell:
        api = self.client().api
        made = api.exec_create(self.container, list(PROGRAM), stdin=True, stdout=True, stderr=True)["Id"]
        stream = api.exec_start(made, socket=True)
        return Shell(getattr(stream, "_sock", stream), _frames, stream)

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        """See `Node.put`."""
        return put_one(self, Content(content, path, mode, owner))

    def put_all(self, files: Sequence[Content]) -> None:
        """See `countersign.nodes.files.TakesMany.put_all`."""
        place(self, files)

    def get(self, path: str) -> bytes:
        """See `Node.get`."""
        argv = ("head", "-c", str(FILE_LIMIT + 1), "--", path)
        result = self._run(argv, b"", 120, {}, FILE_LIMIT + 1)
        if result.code:
            raise CommandError(result, self.name)
        if len(result.stdout) > FILE_LIMIT:
            raise InfrastructureError("is larger than 64 MiB", where=f"{self.name}: {path}")
        return result.stdout

    def exists(self, path: str) -> bool:
        """See `Node.exists`."""
        return self.run(["test", "-e", path, "-o", "-L", path], check=False).code == 0

    def forward(self, socket: str) -> str:
        """See `Node.forward`: the socket itself, through the container's root folder; that takes root on its host."""
        with self._errors(socket):
            pid = self.client().containers.get(self.container).attrs["State"]["Pid"]
        path = Path(f"/proc/{pid}/root{socket}")
        try:
            path.stat()
        except PermissionError:
            raise MissingError(
                "only root can reach a node's sockets", where=f"{self.name}: {socket}", do="run it as root"
            ) from None
        except OSError as error:
            raise InfrastructureError(
                f"cannot be reached from this machine ({error.strerror})", where=f"{self.name}: {socket}"
            ) from None
        return f"unix:{path}"

    def expose(self, port: int) -> str:
        """See `Node.expose`. Raises InfrastructureError: loopback of this machine is not in a container's reach."""
        raise InfrastructureError("a container cannot reach this machine's loopback", where=f"{self.name}: port {port}")

    def _errors(self, what: str) -> _Errors:
        return _Errors(f"{self.name}: {what}")


@dataclass(frozen=True)
class _Errors:
    """Turns the engine's errors into ours."""

    where: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from docker.errors import APIError, DockerException, NotFound

        if isinstance(error, NotFound):
            raise InfrastructureError("there is no such container", where=self.where) from None
        if isinstance(error, APIError) and "is not running" in str(error.explanation):
            raise InfrastructureError("the container does not run", where=self.where) from None
        if isinstance(error, (DockerException, OSError, EOFError)):
            raise InfrastructureError(f"the Docker Engine failed: {error}", where=self.where) from error


def _exec(
    client: DockerClient,
    container: str,
    argv: Sequence[str],
    stdin: bytes,
    env: Mapping[str, str],
    timeout: float,
    limit: int,
) -> tuple[bytes, bytes, int]:
    """Run a command that reads from stdin, and return the last ``limit`` bytes of its outputs, and its exit code."""
    api = client.api
    options: dict[str, Any] = {"stdin": True, "stdout": True, "stderr": True, "environment": dict(env)}
    made = api.exec_create(container, list(argv), **options)["Id"]
    stream = api.exec_start(made, socket=True)
    raw: socket.socket = getattr(stream, "_sock", stream)
    raw.settimeout(timeout)
    outputs = {1: bytearray(), 2: bytearray()}
    try:
        for kind, chunk in _talk(raw, stdin):
            kept = outputs.setdefault(kind, bytearray())
            kept += chunk
            if len(kept) > 2 * limit:
                del kept[:-limit]
    finally:
        stream.close()
        raw.close()
    code = api.exec_inspect(made)["ExitCode"]
    return bytes(outputs[1][-limit:]), bytes(outputs[2][-limit:]), int(code if code is not None else -1)


def _talk(raw: socket.socket, stdin: bytes) -> Iterator[tuple[int, bytes]]:
    """Send all of ``stdin`` while reading, and yield the frames of the answer (Engine API, "Attach")."""
    from threading import Thread

    def send() -> None:
        try:
            raw.sendall(stdin)
            raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the command ended without reading it all; its exit code tells

    sender = Thread(target=send, daemon=True)
    sender.start()
    yield from _frames(raw)
    sender.join()


def _frames(raw: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the frames of an answer (Engine API, "Attach") until the end of the stream."""
    while header := _exactly(raw, 8):
        kind, length = struct.unpack(">BxxxL", header)
        while length:
            chunk = raw.recv(min(length, CHUNK))
            if not chunk:
                raise EOFError("the stream ended early")
            length -= len(chunk)
            yield kind, chunk


def _exactly(raw: socket.socket, count: int) -> bytes:
    """Return the next ``count`` bytes, or nothing at the end."""
    found = b""
    while len(found) < count:
        chunk = raw.recv(count - len(found))
        if not chunk:
            return b""
        found += chunk
    return found
