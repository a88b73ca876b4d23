"""What answers the gates of a fleet: registries, and mirrors of them, each with a log of its requests."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.nodes.template import render

HERE = Path(__file__).resolve().parent
STARTED_WITHIN = 30.0
PATIENCE = 30.0


def free_port() -> int:
    """Return a port of loopback that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@dataclass
class LoggedRegistry:
    """A distribution registry with a log of its requests; with ``remote`` a pull-through mirror of that."""

    folder: Path
    program: Path
    port: int
    remote: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "registry.log"

    def prepare(self) -> Sequence[str]:
        """Write its configuration; return its command line."""
        config, address = self.folder / "registry.yaml", f"127.0.0.1:{self.port}"
        data = str(self.folder / "registry")
        config.write_bytes(render(HERE / "fleet-registry.yaml.j2", data=data, address=address, remote=self.remote))
        return [str(self.program), "serve", str(config)]

    def answers(self) -> bool:
        """Say whether it answers."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            InfrastructureError: it does not.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = self.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + STARTED_WITHIN
        while not self.answers():
            if time.monotonic() > end:
                raise InfrastructureError("the registry does not answer", where=str(self.log))
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and wait for that."""
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=PATIENCE)
            self.process = None

    def requests(self) -> list[str]:
        """Return the method and path of every request so far, as the log has them."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.split('"')[1] for line in lines if '"GET /' in line or '"HEAD /' in line]


class LoggedCache(LoggedRegistry):
    """An nginx that keeps what a registry has answered."""

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "access.log"

    def prepare(self) -> Sequence[str]:
        """Write its configuration; return its command line."""
        config, address = self.folder / "nginx.conf", f"127.0.0.1:{self.port}"
        config.write_bytes(
            render(HERE / "fleet-cache.conf.j2", folder=str(self.folder), address=address, remote=self.remote)
        )
        return [str(self.program), "-p", str(self.folder), "-c", str(config)]


class LoggedZot(LoggedRegistry):
    """A zot that takes from a registry what it is asked for (its extension sync, on demand)."""

    def prepare(self) -> Sequence[str]:
        """Write its configuration; return its command line."""
        config, data = self.folder / "zot.json", str(self.folder / "zot")
        port = str(self.port)
        config.write_bytes(
            render(HERE / "fleet-zot.json.j2", data=data, host="127.0.0.1", port=port, remote=self.remote)
        )
        return [str(self.program), "serve", str(config)]

    def requests(self) -> list[str]:
        """See `LoggedRegistry.requests`; its log has a JSON document for each."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        entries = (json.loads(line) for line in lines if '"method":"' in line and line.startswith("{"))
        return [f"{entry['method']} {entry.get('path', '')}" for entry in entries]
