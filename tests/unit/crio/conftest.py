"""A machine that answers as it is told, and keeps files in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.node import CommandError, Result

Answer = tuple[int, bytes]


@dataclass
class FakeNode:
    os_release: str = 'ID=debian\nVERSION_ID="12"\n'
    answers: dict[str, Callable[[Sequence[str], bytes], Answer]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    name: str = "machine"

    def run(self, argv, *, input=b"", check=True, timeout=60, env=None) -> Result:  # noqa: A002
        self.ran.append(tuple(argv))
        code, out = self.answers.get(argv[0], lambda argv, given: (0, b""))(argv, input)
        result = Result(tuple(argv), code, out, b"", 0.0)
        if check and code:
            raise CommandError(result, self.name)
        return result

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        self.files[path] = content if isinstance(content, bytes) else content.read_bytes()
        return True

    def get(self, path: str) -> bytes:
        if path == "/etc/os-release":
            return self.os_release.encode()
        if path not in self.files:
            raise InfrastructureError("no such file", where=path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files

    def forward(self, socket: str) -> str:
        return f"unix:{socket}"

    def expose(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()
