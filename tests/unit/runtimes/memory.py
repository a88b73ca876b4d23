"""A machine in memory: files, links and units, and commands that answer as they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.nodes.node import CommandError, Result
from countersign.nodes.steps import _MAKE

EPOCH = 1_800_000_000
Answer = bytes | int | Callable[[Sequence[str]], "bytes | int"]


@dataclass
class Entry:
    """What lies at a path: ``f`` a file, ``d`` a folder, ``l`` a link; and when it was put there."""

    kind: str
    mode: int
    content: bytes = b""
    target: str = ""
    when: int = 0


@dataclass
class Unit:
    """A systemd unit."""

    active: bool = False
    enabled: bool = False
    since: int = 0


@dataclass
class Memory:
    """See `countersign.nodes.node.Node`.

    Attributes:
        answers: beginning of a command line → what it prints, or its exit code.
        entries: path → what lies there.
        units: the units that the machine has.
        ran: the command lines that were not a question.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    name: str = "box"
    clock: int = 0

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - as the real one
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        line = " ".join(argv)
        known = sorted((begin for begin in self.answers if line.startswith(begin)), key=len)
        if known:
            answer = self.answers[known[-1]]
            found = answer(argv) if callable(answer) else answer
        else:
            found = getattr(self, f"_{argv[0].replace('-', '_')}", self._nothing)(list(argv))
        code, out = (found, b"") if isinstance(found, int) else (0, found)
        result = Result(tuple(argv), code, out, b"", 0.0)
        if check and code:
            raise CommandError(result, self.name)
        return result

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        data = content if isinstance(content, bytes) else content.read_bytes()
        self.entries[path] = Entry("f", mode, data, when=self._tick())
        return True

    def get(self, path: str) -> bytes:
        if path not in self.entries:
            raise InfrastructureError("no such file", where=path)
        return self.entries[path].content

    def exists(self, path: str) -> bool:
        return path in self.entries

    def forward(self, socket: str) -> str:
        return f"unix:{socket}"

    def expose(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _nothing(self, argv: list[str]) -> bytes:
        self.ran.append(" ".join(argv))
        return b""

    def _find(self, argv: list[str]) -> bytes:
        some = [(path, self.entries[path]) for path in argv[1 : argv.index("-maxdepth")] if path in self.entries]
        seen = "".join(f"{each.kind} {each.mode:o} {path}\0{each.target}\0" for path, each in some)
        sums = "".join(f"{hashlib.sha256(e.content).hexdigest()}  {path}\0" for path, e in some if e.kind == "f")
        return (seen + sums).encode()

    def _stat(self, argv: list[str]) -> bytes | int:
        paths = argv[argv.index("--") + 1 :]
        if any(path not in self.entries for path in paths):
            return 1
        return "\n".join(str(EPOCH + self.entries[path].when) for path in paths).encode()

    def _cat(self, argv: list[str]) -> bytes:
        return b"".join(self.entries[path].content for path in argv[2:] if path in self.entries)

    def _ls(self, argv: list[str]) -> bytes:
        return "\n".join(path for path in argv[argv.index("--") + 1 :] if path in self.entries).encode()

    def _install(self, argv: list[str]) -> bytes:
        self.entries[argv[-1]] = Entry("d", int(argv[3], 8), when=self._tick())
        return b""

    def _sh(self, argv: list[str]) -> bytes:
        if argv[2] != _MAKE:
            return self._nothing(argv)
        self.entries[argv[4]] = Entry("d", int(argv[5], 8), when=self._tick())
        return b""

    def _cp(self, argv: list[str]) -> bytes:
        self.entries[argv[-1]] = self.entries[argv[-2]]
        return b""

    def _ln(self, argv: list[str]) -> bytes:
        self.entries[argv[-1]] = Entry("l", 0o777, target=argv[-2], when=self._tick())
        return b""

    def _mktemp(self, argv: list[str]) -> bytes:
        return argv[-1].replace("XXXXXXXX", "12345678").encode()

    def _mv(self, argv: list[str]) -> bytes:
        self.entries[argv[-1]] = self.entries.pop(argv[-2])
        return b""

    def _rm(self, argv: list[str]) -> bytes:
        for path in argv[argv.index("--") + 1 :]:
            for each in [name for name in self.entries if name == path or name.startswith(f"{path}/")]:
                del self.entries[each]
        return b""

    def _grep(self, argv: list[str]) -> bytes:
        return b"CapBnd:\t000001ffffffffff\n" if argv[1] == "^CapBnd:" else b""

    def _systemctl(self, argv: list[str]) -> bytes:
        verb, name = argv[1], argv[-1]
        if verb == "show":
            return self._show(self.units.get(name, Unit()))
        unit = self.units.setdefault(name, Unit()) if name.endswith(".service") else Unit()
        if verb in ("start", "restart"):
            unit.active, unit.since = True, self._tick()
        elif verb == "stop" or "--now" in argv:
            unit.active = False
        if verb in ("enable", "disable"):
            unit.enabled = verb == "enable"
        if verb != "daemon-reload":
            self.ran.append(" ".join(argv))
        return b""

    def _show(self, unit: Unit) -> bytes:
        since = datetime.fromtimestamp(EPOCH + unit.since, timezone.utc).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
        lines = {
            "ActiveState": "active" if unit.active else "inactive",
            "SubState": "running" if unit.active else "dead",
            "MainPID": "7" if unit.active else "0",
            "UnitFileState": "enabled" if unit.enabled else "",
            "NeedDaemonReload": "no",
            "Result": "success",
            "ActiveEnterTimestamp": since,
        }
        return "\n".join(f"{key}={value}" for key, value in lines.items()).encode()
