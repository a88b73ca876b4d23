"""Keep one program running: ``python -m nodes.supervisor SPEC.json``, started by `countersign.nodes.service`.

It restarts the program when it ends (after a growing pause) and when it falls silent (the
watchdog of sd_notify(3)), keeps its log bounded, and takes it down with itself: the program
never outlives its supervisor, so that one living process is the whole truth about a service.
What goes wrong before it detaches is its exit code and stderr.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from countersign.console.errors import CountersignError
from countersign.nodes import cgroup, linux, private, process
from countersign.nodes.adopted import Adopted
from countersign.nodes.service import Service

START_LIMIT = 30.0
STOP_LIMIT = 10.0
ABORT_LIMIT = 1.0
PAUSE_FIRST = 0.1
PAUSE_LAST = 1.0
"""However often it fell, it is back soon after the last blow; a program that never starts is tried once a second."""
STEADY = 10.0
"""After this many seconds up, a fall is a new one and the pause is short again."""
LOG_LIMIT = 8 << 20
TICK = 1.0
PROBE = 0.05


class Supervisor:
    """The supervisor of one service, from its first start to its last stop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.restarts = 0
        self.reason = ""
        self.ready = False
        self.beat = 0.0
        self.stopping = False
        self.child: subprocess.Popen[bytes] | Adopted | None = None
        self.successor = 0
        self.selector = selectors.DefaultSelector()
        self.wake = socket.socketpair()  # kept: an end that is collected is closed

    def run(self) -> None:
        """Start the program and keep it running until we are told to stop."""
        self._listen()
        pause = 0.0
        while True:
            started = time.monotonic()
            try:
                self.child = self._spawn()
            except OSError as error:
                self.reason = f"cannot be executed: {error}"
            else:
                self.reason = self._watch(self.child, started)
                while self._succeeded():
                    started = time.monotonic()
                    self.reason = self._watch(self.child, started, adopted=True)
                self.child = None
            if self.stopping:
                break
            pause = pause_after(pause, time.monotonic() - started)
            self.restarts += 1
            self._record("waiting")
            self._say(f"{self.reason}; starting again in {pause:g} s")
            self._sleep(pause)
            if self.stopping:
                break
        self._record("stopped")

    def _succeeded(self) -> bool:
        """Adopt the program that the one that ended handed over to, if it did, and return whether."""
        self._turn(0)  # what it said last may not have been read yet
        pid, self.successor = self.successor, 0
        if not pid:
            return False
        try:
            self.child = Adopted(pid)
        except ProcessLookupError:
            return False
        self.service = Service.from_json(self.service.file("json").read_text(encoding="utf-8"))
        return True

    def _listen(self) -> None:
        """Be woken by signals, and by the program's own messages where it sends any."""
        if self.service.hands_over:
            linux.adopt_orphans()
        woken, wake = self.wake
        for end in self.wake:
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        if self.service.ready != "notify":
            return
        path = self.service.file("notify")
        path.unlink(missing_ok=True)
        messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        messages.bind(str(path))
        messages.setblocking(False)
        self.selector.register(messages, selectors.EVENT_READ, lambda: self._heard(messages.recv(4096)))

    def _told_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _heard(self, message: bytes) -> None:
        """Take one message of the program (sd_notify(3): lines ``NAME=VALUE``)."""
        lines = message.decode(errors="replace").splitlines()
        if "READY=1" in lines:
            self._is_ready()
        for line in lines:
            name, _, number = line.partition("=")
            if name == "MAINPID" and number.isdecimal() and self.child:
                self.successor = int(number) if int(number) != self.child.pid else 0
        if "WATCHDOG=1" in lines:
            self.beat = time.monotonic()
        if "WATCHDOG=trigger" in lines:
            self.beat = float("-inf")

    def _is_ready(self) -> None:
        if not self.ready:
            self.ready, self.beat = True, time.monotonic()
            self._record("running")

    def _spawn(self) -> subprocess.Popen[bytes]:
        env = dict(self.service.env)
        if self.service.ready == "notify":
            env["NOTIFY_SOCKET"] = str(self.service.file("notify"))
        if self.service.watchdog:
            env["WATCHDOG_USEC"] = str(int(self.service.watchdog * 1e6))
        with Path(self.service.log).open("ab") as log:
            return subprocess.Popen(
                self.service.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
                preexec_fn=lambda: linux.die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - we have no threads
            )

    def _watch(self, child: subprocess.Popen[bytes] | Adopted, started: float, *, adopted: bool = False) -> str:
        """Look after a running program until it has ended, and return why it did; one that was adopted is ready."""
        self.ready = False
        if not adopted:
            self._record("starting")
        if adopted or not self.service.ready:
            self._is_ready()
        handle = os.pidfd_open(child.pid)
        self.selector.register(handle, selectors.EVENT_READ, lambda: None)
        try:
            while child.poll() is None:
                if self.stopping:
                    return _end(child, signal.SIGTERM, STOP_LIMIT)
                late = self._too_late(started)
                if late:
                    _end(child, signal.SIGABRT, ABORT_LIMIT)
                    return late
                if not self.ready and self.service.ready.startswith("tcp:") and _listens(self.service.ready):
                    self._is_ready()
                self._turn(TICK if self.ready else PROBE)
                for log in (self.service.log, *self.service.logs):
                    _keep_bounded(Path(log))
            return _ended(child.wait())
        finally:
            self.selector.unregister(handle)
            os.close(handle)

    def _too_late(self, started: float) -> str:
        """Return why the program must be killed now, or an empty text."""
        now = time.monotonic()
        if not self.ready:
            return f"not ready after {START_LIMIT:g} s" if now > started + START_LIMIT else ""
        silent = self.service.watchdog and now > self.beat + self.service.watchdog
        return f"watchdog: silent for {self.service.watchdog:g} s" if silent else ""

    def _turn(self, seconds: float) -> None:
        """Wait for something to happen, and deal with it."""
        for key, _ in self.selector.select(seconds):
            with contextlib.suppress(BlockingIOError):
                key.data()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopping and (left := end - time.monotonic()) > 0:
            self._turn(left)

    def _record(self, state: str) -> None:
        """Write down how the service is; readers see the old status or the new one."""
        me, child = process.of(os.getpid()), process.of(self.child.pid) if self.child else None
        document = {
            "version": "countersign.service/v1",
            "state": state,
            "digest": self.service.digest(),
            "supervisor": asdict(me) if me else None,
            "child": asdict(child) if child else None,
            "restarts": self.restarts,
            "reason": self.reason,
        }
        path = self.service.file("status")
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(document, file)
        Path(name).replace(path)

    def _say(self, text: str) -> None:
        with Path(self.service.log).open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} supervisor of {self.service.name}: {text}\n")


def pause_after(last: float, up: float) -> float:
    """Return how many seconds to wait before the next start.

    Args:
        last: the pause before; 0 when there was none.
        up: how many seconds the program was up.
    """
    if up > STEADY or not last:
        return PAUSE_FIRST
    return min(2 * last, PAUSE_LAST)


def _end(child: subprocess.Popen[bytes] | Adopted, number: signal.Signals, patience: float) -> str:
    """Ask a program to end, kill it when it does not, and return how it ended."""
    child.send_signal(number)
    child.send_signal(signal.SIGCONT)  # a frozen one can obey too
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
    return _ended(child.wait())


def _ended(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _listens(ready: str) -> bool:
    host, _, port = ready.removeprefix("tcp:").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE):
            return True
    except OSError:
        return False


def _keep_bounded(log: Path) -> None:
    """Move a log that has grown too long aside. The program appends, so its file can be emptied under it."""
    if log.is_file() and log.stat().st_size > LOG_LIMIT:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def _detach(log: str) -> None:
    """Let the process that started us go on, and leave its session and streams."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    with Path(log).open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)


def main(spec: str) -> None:
    """Read the specification, take the service's lock, and supervise it."""
    service = Service.from_json(Path(spec).read_text(encoding="utf-8"))
    lock = service.file("lock").open("w")  # held while we live
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another supervisor has {lock.name}")
    try:
        if service.cgroup:
            cgroup.join(service.cgroup)
        earlier = sorted(each.pid for each in cgroup.members(service.cgroup)) if service.cgroup else []
        if service.shadows and not private.rejoin(service.shadows, earlier):
            with tempfile.TemporaryDirectory(dir=service.run) as scratch:
                private.shadow(service.shadows, Path(scratch))
    except (OSError, CountersignError) as error:
        sys.exit(str(error))
    _detach(service.log)
    Supervisor(service).run()


if __name__ == "__main__":
    main(sys.argv[1])
