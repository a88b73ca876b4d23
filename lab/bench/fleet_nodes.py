"""Many real gates on this machine, each with a policy, an evidence store and a socket of its own, and one registry."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement.gate_client import LIMIT
from lab.bench.at_once import at_once
from lab.bench.fleet_store import bundle

HOST = "fleet.countersign.test"
STARTED_WITHIN = 180.0
STARTED_AT_ONCE = 10
PATIENCE = 30.0
RETRIED = {"REGISTRY_ERROR", "NO_EVIDENCE_OFFLINE", "TIMEOUT"}
"""Codes that say nothing of the image."""
BACK_OFF = 0.5


@dataclass
class Process:
    """A program that runs with its files in a folder."""

    folder: Path
    program: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def begin(self, *options: str, log: Path) -> None:
        """Start it; what it says goes to its log."""
        with log.open("ab") as file:
            argv = [str(self.program), *options]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def stop(self) -> None:
        """End it and wait for that."""
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=PATIENCE)
            self.process = None


@dataclass
class Gate(Process):
    """One gate."""

    @property
    def policy(self) -> Path:
        """Its policy's file."""
        return self.folder / "policy.json"

    def start(self) -> None:
        """Start it; `ready` says whether it serves."""
        self.begin("serve", "--config", str(self.folder / "gate.json"), log=self.folder / "log")

    def ask(self, operation: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return its verdict. Raises OSError when it does not answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.folder / "gate.sock"))
            connection.sendall(f"{operation}\n{json.dumps(body) if body else ''}".encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as stream:
                found: dict[str, Any] = json.loads(stream.read(LIMIT).split(b"\n", 2)[2])
        return found

    def started(self, container: str, tries: int) -> dict[str, Any]:
        """Return its verdict on a container that is to start, as the hook asks for it.

        Where none could be had it is asked again, as kubelets do; ``tries`` of the verdict says how often.
        """
        annotations = {"io.kubernetes.cri-o.ContainerType": "container"}
        state = {"ociVersion": "1.2.0", "id": container, "status": "creating", "annotations": annotations}
        for number in range(1, tries + 1):
            verdict = self.ask("create", {**state, "bundle": bundle(self.folder.parent / "run", container)})
            if verdict["code"] not in RETRIED or number == tries:
                return {**verdict, "tries": number}
            time.sleep(number * BACK_OFF)
        raise InfrastructureError("was never asked", where=container)

    def ready(self) -> bool:
        """Say whether it serves by a policy."""
        try:
            return bool(self.ask("ping").get("policy"))
        except (OSError, IndexError, ValueError):
            return False

    @property
    def resident(self) -> int:
        """Bytes in memory."""
        if self.process is None:
            raise InfrastructureError("the gate does not run", where=str(self.folder))
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * 4096


@contextmanager
def gates(folder: Path, program: Path, count: int, policy: bytes, certs: Path) -> Iterator[list[Gate]]:
    """Run so many gates, and end them."""
    made = []
    for number in range(count):
        gate = Gate(folder / f"g{number}", program)
        gate.folder.mkdir()
        gate.policy.write_bytes(policy)
        (gate.folder / "gate.json").write_text(json.dumps(_config(gate.folder, certs)))
        made.append(gate)
    try:
        start(made)
        yield made
    finally:
        for gate in made:
            gate.stop()


def _config(folder: Path, certs: Path) -> dict[str, Any]:
    return {
        "policy": f"{folder}/policy.json",
        "socket": f"{folder}/gate.sock",
        "evidence": {"dir": f"{folder}/evidence"},
        "log": f"{folder}/verdicts.jsonl",
        "crio": {"root": f"{folder.parent}/storage", "runRoot": f"{folder.parent}/run"},
        "registry": {"certsDir": str(certs)},
        "timeouts": {"registry": "4s", "verdict": "4.5s", "pull": "20s"},
    }


def start(made: Sequence[Gate]) -> None:
    """Start gates, a few at a time, and wait until each serves.

    Raises:
        InfrastructureError: one does not.
    """
    for first in range(0, len(made), STARTED_AT_ONCE):
        some = made[first : first + STARTED_AT_ONCE]
        for gate in some:
            gate.start()
        end = time.monotonic() + STARTED_WITHIN
        for gate in some:
            while not gate.ready():
                if time.monotonic() > end:
                    raise InfrastructureError("a gate does not serve", where=str(gate.folder / "log"))
                time.sleep(0.02)


def all_at_once(made: Sequence[Gate], containers: Sequence[str], tries: int) -> tuple[float, list[dict[str, Any]]]:
    """Have every gate judge the containers one after the other, all gates from the same moment on.

    Returns:
        seconds until the last verdict, and every verdict.
    """

    def one(gate: Gate) -> list[dict[str, Any]]:
        return [gate.started(container, tries) for container in containers]

    seconds, found = at_once([partial(one, gate) for gate in made])
    return seconds, [verdict for each in found for verdict in each]
