from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes import service, supervisor
from countersign.nodes.process import Process
from countersign.nodes.service import Service, State
from countersign.nodes.steps import Running

NOTIFIES = """
import os, socket, sys, time
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"])
manager.send(b"READY=1")
for _ in range(int(sys.argv[1])):
    time.sleep(0.2)
    manager.send(b"WATCHDOG=1")
time.sleep(60)
"""

HANDS_OVER = """
import os, signal, socket, subprocess, sys, time
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"])
def hand_over(*_):
    if os.path.exists(sys.argv[2]):
        return
    next = subprocess.Popen([sys.executable, "-c", open(sys.argv[1]).read(), *sys.argv[1:]], stdout=subprocess.PIPE)
    next.stdout.read(1)  # it is ready
    manager.send(f"MAINPID={next.pid}".encode())
    os._exit(0)
signal.signal(signal.SIGUSR2, hand_over)
manager.send(b"READY=1")
os.write(1, b"r")
while True:
    time.sleep(60)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    def build(*argv: str, **options) -> Service:
        env = {"PATH": os.environ["PATH"]}
        return Service("it", argv, str(tmp_path), str(tmp_path / "log"), env, **options)

    yield build
    service.stop(tmp_path, "it")


def of(found: State) -> tuple[Process, Process]:
    assert found.supervisor is not None
    assert found.child is not None
    return found.supervisor, found.child


def until(run: Path, wanted: Callable[[State], bool]) -> State:
    deadline = time.monotonic() + 10
    while not wanted(found := service.state(run, "it")):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_a_service_runs_until_it_is_stopped(make, tmp_path):
    spec = make("sh", "-c", "echo $PPID hello; exec sleep 60")
    assert service.state(tmp_path, "it").state == "stopped"
    service.start(spec)
    found = service.state(tmp_path, "it")
    assert (found.state, found.restarts, found.digest) == ("running", 0, spec.digest())
    until(tmp_path, lambda _: "hello" in service.tail(spec.log))
    assert service.stop(tmp_path, "it")
    assert not any(each.alive() for each in of(found))
    assert service.state(tmp_path, "it").state == "stopped"
    assert not service.stop(tmp_path, "it")


def test_a_service_that_ends_is_started_again(make, tmp_path):
    spec = make("sleep", "60")
    service.start(spec)
    first = service.state(tmp_path, "it").child
    service.signal_child(tmp_path, "it", signal.SIGKILL)
    found = until(tmp_path, lambda now: now.state == "running" and now.restarts == 1)
    assert found.child not in {None, first}
    assert found.reason == "ended by signal 9"
    assert "supervisor of it: ended by signal 9; starting again" in service.tail(spec.log)


@pytest.mark.parametrize(
    ("falls", "up", "expected"),
    [(1, 0, 0.1), (2, 0, 0.2), (4, 0.3, 0.8), (5, 0.3, 1), (100, 0.3, 1), (100, 0, 1), (100, 11, 0.1)],
)
def test_however_often_it_fell_a_service_is_back_within_a_second(falls, up, expected):
    pause = 0.0
    for _ in range(falls):
        pause = supervisor.pause_after(pause, up)
    assert pause == pytest.approx(expected)


def test_a_service_that_read_another_file_than_it_should_is_to_be_restarted(make, tmp_path):
    config = tmp_path / "config"
    config.write_text("as it should be")
    spec = make("sleep", "60", inputs={str(config): "digest", "a tool": "no path"})
    service.start(spec)
    step = Running(spec)
    assert not step.needed()
    config.write_text("tampered")
    service.signal_child(tmp_path, "it", signal.SIGKILL)
    until(tmp_path, lambda now: now.state == "running" and now.restarts == 1)
    config.write_text("as it should be")
    assert step.needed()
    step.apply()
    assert not step.needed()


def test_a_service_does_not_outlive_its_supervisor(make, tmp_path):
    service.start(make("sleep", "60"))
    supervised_by, child = of(service.state(tmp_path, "it"))
    supervised_by.send(signal.SIGKILL)
    assert child.wait(5)
    assert service.state(tmp_path, "it").state == "crashed"
    service.start(make("sleep", "61"))
    assert service.state(tmp_path, "it").state == "running"


def test_a_service_is_ready_when_it_says_so(make, tmp_path):
    service.start(make(sys.executable, "-c", NOTIFIES, "0", ready="notify"))
    assert service.state(tmp_path, "it").state == "running"


def test_silence_means_that_it_hangs(make, tmp_path):
    service.start(make(sys.executable, "-c", NOTIFIES, "2", ready="notify", watchdog=0.6))
    found = until(tmp_path, lambda now: now.restarts == 1)
    assert found.reason == "watchdog: silent for 0.6 s"


def test_a_frozen_service_is_replaced(make, tmp_path):
    service.start(make(sys.executable, "-c", NOTIFIES, "100", ready="notify", watchdog=0.6))
    _, frozen = of(service.state(tmp_path, "it"))
    service.signal_child(tmp_path, "it", signal.SIGSTOP)
    found = until(tmp_path, lambda now: now.state == "running" and now.restarts == 1)
    assert not frozen.alive()
    assert of(found)[1].alive()


def test_a_changed_service_hands_over_and_is_supervised_as_before(hands_over, tmp_path):
    service.start(hands_over(inputs={"/bin": "1"}))
    supervisor, first = of(service.state(tmp_path, "it"))
    for digest in "2", "3":
        changed = hands_over(inputs={"/bin": digest})
        service.start(changed)
        found = service.state(tmp_path, "it")
        assert (found.state, found.restarts, found.digest) == ("running", 0, changed.digest())
        assert of(found)[0] == supervisor
        assert not first.alive()
        first = of(found)[1]
    first.send(signal.SIGKILL)
    found = until(tmp_path, lambda now: now.state == "running" and now.restarts == 1)
    assert found.reason == "ended by signal 9"
    assert service.stop(tmp_path, "it")
    assert not any(each.alive() for each in of(found))


def test_a_service_with_other_arguments_is_started_anew(hands_over, tmp_path):
    service.start(hands_over())
    supervisor, first = of(service.state(tmp_path, "it"))
    service.start(hands_over(env={"PATH": os.environ["PATH"], "MORE": "1"}))
    found = service.state(tmp_path, "it")
    assert found.state == "running"
    assert of(found)[0] != supervisor
    assert not first.alive()


def test_a_service_that_does_not_hand_over_is_started_anew(hands_over, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "HANDED_OVER_WITHIN", 0.5)
    (tmp_path / "refuse").touch()
    service.start(hands_over())
    supervisor, first = of(service.state(tmp_path, "it"))
    service.start(hands_over(inputs={"/bin": "2"}))
    found = service.state(tmp_path, "it")
    assert found.state == "running"
    assert of(found)[0] != supervisor
    assert not first.alive()


@pytest.fixture
def hands_over(make: Callable[..., Service], tmp_path: Path) -> Callable[..., Service]:
    script = tmp_path / "script"
    script.write_text(HANDS_OVER)

    def build(**options) -> Service:
        spec = make(
            sys.executable, "-c", HANDS_OVER, str(script), str(tmp_path / "refuse"), ready="notify", hands_over=True
        )
        return replace(spec, **options)

    return build


def test_a_service_that_talks_is_left_alone(make, tmp_path):
    service.start(make(sys.executable, "-c", NOTIFIES, "100", ready="notify", watchdog=0.8))
    time.sleep(1.5)
    assert service.state(tmp_path, "it").restarts == 0


def test_a_listener_is_ready_when_it_listens(make, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        service.start(make("sleep", "60", ready=f"tcp:127.0.0.1:{listener.getsockname()[1]}"))
    assert service.state(tmp_path, "it").state == "running"


def test_what_does_not_become_ready_is_stopped(make, tmp_path):
    with pytest.raises(InfrastructureError, match=r"it: not ready after 0\.5 s"):
        service.start(make("sleep", "60", ready="tcp:127.0.0.1:1"), timeout=0.5)
    assert service.state(tmp_path, "it").state == "stopped"


def test_a_service_that_does_not_stay_up_is_given_up_with_its_last_words(make, tmp_path):
    with pytest.raises(InfrastructureError, match=r"does not stay up \(ended with exit code 3.*no such flag"):
        service.start(make("sh", "-c", "echo no such flag; exit 3", ready="notify"))
    assert service.state(tmp_path, "it").supervisor is None


def test_a_program_that_is_not_there_is_said_to_be_so(make):
    with pytest.raises(InfrastructureError, match=r"cannot be executed.*/nowhere"):
        service.start(make("/nowhere", ready="notify"))


def test_there_is_one_supervisor_a_service(make, tmp_path):
    service.start(make("sleep", "60"))
    status = tmp_path / "it.status"
    hidden = status.read_bytes()
    status.unlink()
    with pytest.raises(InfrastructureError, match="another supervisor has"):
        service.start(make("sleep", "60"))
    status.write_bytes(hidden)


def test_a_waiting_supervisor_costs_nothing(make, tmp_path):
    service.start(make("sleep", "60"))
    pid = of(service.state(tmp_path, "it"))[0].pid

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.6)
    assert ticks() - before <= 3


def test_what_changes_a_service_changes_its_digest(make):
    plain = make("sleep", "60")
    assert plain.digest() == make("sleep", "60").digest()
    assert plain.digest() != make("sleep", "61").digest()
    assert plain.digest() != make("sleep", "60", inputs={"config": "1"}).digest()
    assert Service.from_json(plain.to_json()) == plain


def test_a_log_that_grew_too_long_is_moved_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "LOG_LIMIT", 10)
    log = tmp_path / "log"
    with log.open("ab") as writer:
        writer.write(b"0123456789")
        writer.flush()
        supervisor._keep_bounded(log)
        assert log.read_bytes() == b"0123456789"
        writer.write(b"+")
        writer.flush()
        supervisor._keep_bounded(log)
        writer.write(b"after")
    assert (log.read_bytes(), (tmp_path / "log.1").read_bytes()) == (b"after", b"0123456789+")
