"""The node that is this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes.capture import TimedOut, capture
from countersign.nodes.node import CommandError, Result

FILE_LIMIT = 64 << 20
CHUNK = 1 << 20


@dataclass(frozen=True)
class HostNode:
    """This machine, as the user we are; see `countersign.nodes.node.Node`."""

    name: str = "host"

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
        argv, start = tuple(argv), time.monotonic()
        try:
            code, stdout, stderr = capture(argv, stdin=input, timeout=timeout, env={**os.environ, **(env or {})})
        except TimedOut as late:
            stdout, stderr = late.args
            result = Result(argv, -9, stdout, stderr, time.monotonic() - start)
            raise CommandError(result, self.name, f"did not end within {timeout:g} s") from None
        except FileNotFoundError:
            raise MissingError("is not on this machine", where=argv[0], do="install it") from None
        except OSError as error:
            raise InfrastructureError(str(error.strerror), where=argv[0]) from error
        result = Result(argv, code, stdout, stderr, time.monotonic() - start)
        if check and code != 0:
            raise CommandError(result, self.name)
        return result

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        """See `Node.put`."""
        target = Path(path)
        user, _, group = owner.partition(":")
        with _file_errors(path):
            if target.is_file() and not target.is_symlink() and _same(content, target):
                stat = target.stat()
                changed = stat.st_mode & 0o7777 != mode
                target.chmod(mode)
                if owner:
                    shutil.chown(target, user, group or None)
                    changed |= (target.stat().st_uid, target.stat().st_gid) != (stat.st_uid, stat.st_gid)
                return changed
            # mkstemp makes it 0600, so there is no moment of wider access than the mode asks for
            fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            temporary = Path(name)
            try:
                with os.fdopen(fd, "wb") as out:
                    out.writelines(_chunks(content))
                    if owner:
                        shutil.chown(temporary, user, group or None)
                    os.fchmod(fd, mode)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return True

    def get(self, path: str) -> bytes:
        """See `Node.get`."""
        with _file_errors(path), Path(path).open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise InfrastructureError("is larger than 64 MiB", where=path)
        return content

    def exists(self, path: str) -> bool:
        """See `Node.exists`."""
        return os.path.lexists(path)

    def forward(self, socket: str) -> str:
        """See `Node.forward`: here the socket itself."""
        return f"unix:{socket}"

    def expose(self, port: int) -> str:
        """See `Node.expose`: here the port itself."""
        return f"http://127.0.0.1:{port}"


HOST = HostNode()
"""The one that steps of this machine are built for."""


@contextlib.contextmanager
def _file_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfrastructureError(error.strerror or str(error), where=error.filename or path) from error


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _same(content: bytes | Path, target: Path) -> bool:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size != target.stat().st_size:
        return False
    if isinstance(content, bytes):
        return content == target.read_bytes()
    return all(ours == theirs for ours, theirs in zip(_chunks(content), _chunks(target), strict=True))
