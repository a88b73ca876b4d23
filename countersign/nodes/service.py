"""Programs that this machine keeps running for us, where no systemd does: start, stop, look.

Each has a supervisor process of its own (`countersign.nodes.supervisor`), which restarts it. A real node has
systemd instead; only the ``host`` node uses this.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.nodes.process import Process

ROOT = Path(__file__).resolve().parents[2]
TAIL = 1200
DETACHED_WITHIN = 30.0
HANDED_OVER_WITHIN = 55.0
"""More than the gate gives its successor (45 s) and then itself (6 s)."""
GIVE_UP = 3
"""A service that ended this often before it was ready will not become so."""


@dataclass(frozen=True)
class Service:
    """What to keep running.

    Attributes:
        name: unique in ``run``.
        argv: the program, by its full path, and its arguments.
        run: existing folder for what the supervisor keeps: specification, status, lock, socket.
        log: file that the program's stdout and stderr go to.
        logs: other files that it appends to. Of each log the last 8 to 16 MiB are kept.
        env: the program's whole environment.
        ready: when it counts as up: ``notify`` (sd_notify(3): it says so itself),
            ``tcp:HOST:PORT`` (something listens there), or empty (at once).
        watchdog: seconds after which silence means that it hangs (``WatchdogSec=`` of systemd);
            it must send ``WATCHDOG=1`` more often than that. 0 is none.
        cgroup: the instance's cgroup, which the supervisor joins.
        shadows: fixed path of the machine → folder that it sees there instead (`countersign.nodes.private`).
        hands_over: SIGUSR2 has it start the program anew, which takes its place without a gap and
            is named by ``MAINPID=`` (sd_notify(3)).
        inputs: whatever makes a restart necessary when it changes, such as file → digest.
    """

    name: str
    argv: tuple[str, ...]
    run: str
    log: str
    env: Mapping[str, str]
    logs: tuple[str, ...] = ()
    ready: str = ""
    watchdog: float = 0
    cgroup: str = ""
    shadows: Mapping[str, str] = field(default_factory=dict)
    hands_over: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the specification as the supervisor reads it."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def digest(self) -> str:
        """Return what tells two specifications apart."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Service:
        """Read what `to_json` wrote."""
        document: dict[str, Any] = json.loads(text)
        return cls(**{**document, "argv": tuple(document["argv"]), "logs": tuple(document["logs"])})

    def file(self, kind: str) -> Path:
        """Return one of the supervisor's files: ``json``, ``status``, ``lock`` or ``notify``."""
        return Path(self.run) / f"{self.name}.{kind}"


@dataclass(frozen=True)
class State:
    """How a service is.

    Attributes:
        name: of the service.
        state: ``starting``, ``running``, ``waiting`` (to be restarted), ``stopped``, or ``crashed``
            (its supervisor is gone without having stopped it).
        digest: of the specification it runs by.
        supervisor: its supervisor, while that lives.
        child: the program, while it lives.
        restarts: how often it was started again.
        reason: why it last ended.
    """

    name: str
    state: str
    digest: str = ""
    supervisor: Process | None = None
    child: Process | None = None
    restarts: int = 0
    reason: str = ""


def state(run: Path, name: str) -> State:
    """Return how the service ``name`` of the folder ``run`` is; one never started is stopped."""
    try:
        document = json.loads((run / f"{name}.status").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return State(name, "stopped")
    supervisor, child = (Process(**document[key]) if document[key] else None for key in ("supervisor", "child"))
    alive = supervisor is not None and supervisor.alive()
    recorded = document["state"]
    return State(
        name=name,
        state=recorded if alive or recorded == "stopped" else "crashed",
        digest=document["digest"],
        supervisor=supervisor if alive else None,
        child=child if child and child.alive() else None,
        restarts=document["restarts"],
        reason=document["reason"],
    )


def start(service: Service, timeout: float = 30) -> None:
    """Start a service under a supervisor of its own, and wait until it is ready.

    One that runs is stopped first, or hands over where that is enough. When it does not become
    ready it is stopped again.

    Raises:
        InfrastructureError: with the end of its log.
    """
    if _handed_over(service):
        return
    stop(Path(service.run), service.name)
    service.file("status").unlink(missing_ok=True)  # that of an earlier supervisor must not be taken for this one's
    spec = service.file("json")
    spec.write_text(service.to_json(), encoding="utf-8")
    try:
        subprocess.run(
            [sys.executable, "-m", "countersign.nodes.supervisor", str(spec)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            timeout=DETACHED_WITHIN,
            check=True,
        )
    except subprocess.TimeoutExpired:
        late = f"its supervisor did not start within {DETACHED_WITHIN:g} s"
        raise InfrastructureError(late, where=service.name) from None
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode(errors="replace")[-TAIL:]
        raise InfrastructureError(f"cannot be supervised: {why}", where=service.name) from None
    try:
        wait_ready(service, timeout)
    except BaseException:
        stop(Path(service.run), service.name)
        raise


def _handed_over(service: Service) -> bool:
    """Have a running program replaced by what lies in its place now; return False where only a restart does that."""
    found = state(Path(service.run), service.name)
    if not service.hands_over or found.state != "running" or found.child is None:
        return False
    spec = service.file("json")
    if replace(Service.from_json(spec.read_text(encoding="utf-8")), inputs={}) != replace(service, inputs={}):
        return False  # other arguments or another environment
    spec.write_text(service.to_json(), encoding="utf-8")
    found.child.send(signal.SIGUSR2)
    deadline = time.monotonic() + HANDED_OVER_WITHIN
    while time.monotonic() < deadline:
        now = state(Path(service.run), service.name)
        if now.state == "running" and now.child and now.child != found.child and now.digest == service.digest():
            return True
        time.sleep(0.02)
    return False


def wait_ready(service: Service, timeout: float = 30) -> None:
    """Wait until a started service is ready. Raises InfrastructureError with the end of its log."""
    deadline = time.monotonic() + timeout
    while (found := state(Path(service.run), service.name)).state != "running":
        late = time.monotonic() >= deadline
        if late or found.state == "crashed" or found.restarts >= GIVE_UP:
            why = f"not ready after {timeout:g} s" if late else f"does not stay up ({found.reason})"
            raise InfrastructureError(f"{why}: {tail(service.log)}", where=service.name, do=f"read {service.log}")
        time.sleep(0.02)


def stop(run: Path, name: str, timeout: float = 15) -> bool:
    """Stop a service with its supervisor and return whether it ran.

    Raises:
        InfrastructureError: it is still there after ``timeout`` seconds and a SIGKILL.
    """
    found = state(run, name)
    processes = [process for process in (found.supervisor, found.child) if process]
    if found.supervisor:
        found.supervisor.send(signal.SIGTERM)
        found.supervisor.wait(timeout)
    for process in processes:
        if process.send(signal.SIGKILL) and not process.wait(2):
            raise InfrastructureError(f"process {process.pid} cannot be killed", where=name)
    return bool(processes)


def signal_child(run: Path, name: str, number: signal.Signals) -> None:
    """Send a running service itself a signal, past its supervisor. Raises InfrastructureError when it is down."""
    child = state(run, name).child
    if child is None or not child.send(number):
        raise InfrastructureError("is not running", where=name)


def tail(log: str) -> str:
    """Return the end of a log file, or an empty text."""
    try:
        return Path(log).read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
    except FileNotFoundError:
        return ""
