"""What the SSH node does on a machine with a real sshd."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes import connect
from countersign.nodes.each import side_by_side
from countersign.nodes.files import Content
from countersign.nodes.node import CommandError
from countersign.nodes.ssh import SshNode
from tests.ssh.machine import PASSWORD, SMALL, Sshd

Opener = Callable[..., SshNode]


def test_a_command_leaves_its_exit_code_and_both_outputs(node: SshNode) -> None:
    result = node.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (result.code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    with pytest.raises(CommandError, match="exit code 3"):
        node.run(["sh", "-c", "exit 3"])


def test_no_shell_reads_arguments_and_stdin_and_environment_arrive(node: SshNode) -> None:
    strange = "a 'b' \"c\" $HOME `id` \\ ; & \n*"
    assert node.run(["printf", "%s", strange]).stdout.decode() == strange
    assert node.run(["sh", "-c", 'printf %s "$GREETING"'], env={"GREETING": strange}).stdout.decode() == strange
    big = os.urandom(3 << 20)
    assert node.run(["sha256sum"], input=big).text.split()[0] == hashlib.sha256(big).hexdigest()


def test_output_is_bounded_to_its_end(node: SshNode) -> None:
    result = node.run(["sh", "-c", "head -c 5000000 /dev/zero; echo end"])
    assert len(result.stdout) == 1 << 20
    assert result.stdout.endswith(b"end\n")


def test_a_command_that_is_late_is_killed_with_all_it_started(node: SshNode, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"did not end within 0\.5 s"):
        node.run(["sh", "-c", f"sleep 33 & echo $! >{tmp_path}/pid; wait"], timeout=0.5)
    assert time.monotonic() - start < 5
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(node: SshNode) -> None:
    start = time.monotonic()
    assert node.run(["sh", "-c", "sleep 20 & echo started"], timeout=15).text == "started"
    assert time.monotonic() - start < 5


def test_a_program_that_is_not_there_is_missing(node: SshNode) -> None:
    with pytest.raises(MissingError, match="no-such-program: is not on this node"):
        node.run(["no-such-program"])


def test_files_arrive_whole_with_mode_and_owner_and_only_when_they_differ(node: SshNode, tmp_path: Path) -> None:
    target = tmp_path / "file"
    assert node.put(b"one", str(target), 0o640, "nobody")
    found = target.stat()
    assert (target.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid) == (b"one", 0o640, 65534)
    assert not node.put(b"one", str(target), 0o640, "nobody")
    assert node.put(b"two", str(target), 0o640)
    assert node.get(str(target)) == b"two"
    assert node.exists(str(target))
    assert not node.exists(f"{target}x")
    with pytest.raises(InfrastructureError):
        node.get(f"{target}x")


def test_many_files_take_one_command(node: SshNode, tmp_path: Path) -> None:
    node.put_all([Content(f"{number}".encode(), f"{tmp_path}/{number}", 0o600) for number in range(50)])
    assert sorted(int(path.read_text()) for path in tmp_path.iterdir()) == list(range(50))


def test_a_full_disk_is_named_and_nothing_half_written_stays(node: SshNode) -> None:
    node.put(b"old", f"{SMALL}/file")
    with pytest.raises(InfrastructureError, match=rf"{SMALL}: the disk is full; make room"):
        node.put(os.urandom(2 << 20), f"{SMALL}/file")
    assert node.run(["ls", "-A", SMALL]).text == "file"
    assert node.get(f"{SMALL}/file") == b"old"
    with pytest.raises(InfrastructureError, match="/no/folder: there is no such folder"):
        node.put(b"", "/no/folder/file")
    assert not node.exists("/no")


def test_many_threads_share_the_connection(node: SshNode) -> None:
    found = side_by_side(lambda number: node.run(["echo", str(number)]).text, range(40))
    assert found == [str(number) for number in range(40)]


@pytest.mark.parametrize("user", ["root", "free", "asks"])
def test_a_socket_of_root_is_reached(user: str, connect_as: Opener, tmp_path: Path) -> None:
    node = connect_as(user, PASSWORD)
    path = tmp_path / "socket"
    with echo_server(socket.AF_UNIX, str(path)):
        path.chmod(0o600)
        target = node.forward(str(path)).removeprefix("unix:")
        assert node.forward(str(path)) == f"unix:{target}"
        assert stat.S_IMODE(Path(target).parent.stat().st_mode) == 0o700
        for payload in (b"hello", os.urandom(1 << 20)):
            assert ask(socket.AF_UNIX, target, payload) == payload
    node.close()
    assert not Path(target).parent.exists()


def test_a_socket_that_nobody_listens_on_closes_the_connection(node: SshNode, tmp_path: Path) -> None:
    target = node.forward(f"{tmp_path}/nothing").removeprefix("unix:")
    assert ask(socket.AF_UNIX, target, b"hello") == b""


def test_the_machine_reaches_a_port_of_ours(node: SshNode) -> None:
    with echo_server(socket.AF_INET, ("127.0.0.1", 0)) as address:
        url = node.expose(address[1])
        assert node.expose(address[1]) == url
        port = int(url.rpartition(":")[2])
        assert port != address[1]  # it is the same machine, so that number is taken
        payload = os.urandom(1 << 20)
        assert ask(socket.AF_INET, ("127.0.0.1", port), payload) == payload
    node.close()
    eventually(lambda: not listens(port))


@pytest.mark.parametrize(("user", "password"), [("root", ""), ("free", ""), ("asks", PASSWORD)])
def test_commands_run_as_root(user: str, password: str, connect_as: Opener, tmp_path: Path) -> None:
    node = connect_as(user, password)
    assert node.run(["id", "-u"]).text == "0"
    assert node.run(["cat"], input=b"first line\nsecond").stdout == b"first line\nsecond"
    assert node.run(["cat"]).stdout == b""
    assert node.put(b"content", f"{tmp_path}/{user}", 0o600)
    assert (tmp_path / user).stat().st_uid == 0
    with pytest.raises(CommandError, match=r"did not end within 0\.3 s"):
        node.run(["sleep", "20"], timeout=0.3)


@pytest.mark.parametrize(
    ("user", "password", "why"),
    [
        ("asks", "", "sudo does not let asks without a password; give it in INVOKE_SUDO_PASSWORD"),
        ("asks", "wrong", "sudo refuses asks with the password given"),
        ("bare", PASSWORD, "sudo refuses bare with the password given .*not in the sudoers file"),
    ],
)
def test_who_cannot_become_root_is_told_what_to_do(user: str, password: str, why: str, connect_as: Opener) -> None:
    with pytest.raises(MissingError, match=why):
        connect_as(user, password).run(["true"])


def test_the_password_is_never_an_argument(connect_as: Opener) -> None:
    node = connect_as("asks", PASSWORD)
    shown = node.run(["ps", "-eo", "args"]).text
    assert "sudo" in shown
    assert PASSWORD not in shown
    assert PASSWORD not in repr(node) + repr(Settings(sudo_password=PASSWORD))


def test_a_lost_connection_is_one_line_and_the_next_command_connects_again(node: SshNode, sshd: Sshd) -> None:
    with echo_server(socket.AF_INET, ("127.0.0.1", 0)) as address:
        url = node.expose(address[1])
        threading.Timer(0.5, sshd.cut).start()
        with pytest.raises(InfrastructureError, match=r"sleep: the connection was lost.*; run it again") as lost:
            node.run(["sleep", "20"])
        assert "\n" not in str(lost.value)
        assert node.run(["echo", "back"]).text == "back"
        assert ask(socket.AF_INET, ("127.0.0.1", int(url.rpartition(":")[2])), b"still") == b"still"


def test_a_machine_with_another_key_is_refused(connect_as: Opener, sshd: Sshd) -> None:
    with known_hosts(sshd, f"[127.0.0.1]:{sshd.port} {other_key(sshd)}\n"):
        with pytest.raises(InfrastructureError, match="its host key is not the known one: got ssh-ed25519 SHA256:"):
            connect_as().run(["true"])
        assert connect_as_is_known(sshd, connect_as) is False
    assert connect_as_is_known(sshd, connect_as) is True


def test_a_machine_that_is_not_known_is_refused_and_not_added(connect_as: Opener, sshd: Sshd) -> None:
    with known_hosts(sshd, ""):
        with pytest.raises(MissingError, match="its host key is not known: ssh-ed25519 SHA256:"):
            connect_as().run(["true"])
        assert sshd.known_hosts.read_text() == ""


def test_a_revoked_key_is_refused(connect_as: Opener, sshd: Sshd) -> None:
    line = f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n"
    with known_hosts(sshd, f"{line}@revoked {line}"), pytest.raises(MissingError, match="its host key is not known"):
        connect_as().run(["true"])


def test_a_key_under_a_hashed_name_is_known(connect_as: Opener, sshd: Sshd) -> None:
    from paramiko.hostkeys import HostKeys

    name = HostKeys.hash_host(f"[127.0.0.1]:{sshd.port}")
    with known_hosts(sshd, f"{name} {sshd.host_key}\n"):
        assert connect_as().run(["echo", "known"]).text == "known"


def test_a_machine_just_made_is_known_from_its_first_connection_on(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "ssh-config"
    config.write_text(
        f"Host box\n  HostName 127.0.0.1\n  User root\n  Port {sshd.port}\n  UserKnownHostsFile /dev/null\n"
        f"  StrictHostKeyChecking no\n  IdentitiesOnly yes\n  IdentityFile {sshd.home}/.ssh/id_ed25519\n"
    )
    pins = tmp_path / "known_hosts"
    for _ in range(2):
        node = connect.from_config("box", config)
        assert node.run(["id", "-u"]).text == "0"
        node.close()
        assert pins.read_text() == f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n"
    pins.write_text(f"[127.0.0.1]:{sshd.port} {other_key(sshd)}\n")
    with pytest.raises(InfrastructureError, match="its host key is not the known one"):
        connect.from_config("box", config).run(["true"])


def test_a_machine_that_is_not_there_is_one_line(sshd: Sshd) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        node = connect.ssh(f"ssh://root@127.0.0.1:{taken.getsockname()[1]}", Settings())
        with pytest.raises(InfrastructureError, match=r"root@\[127.0.0.1\]:\d+: cannot be reached"):
            node.run(["true"])


def test_a_user_whose_key_is_not_let_in_is_told(sshd: Sshd) -> None:
    node = connect.ssh(sshd.url("nobody-there"), Settings())
    with pytest.raises(MissingError, match="lets none of our keys in"):
        node.run(["true"])


def connect_as_is_known(sshd: Sshd, connect_as: Opener) -> bool:
    try:
        return connect_as().run(["true"]).code == 0
    except InfrastructureError:
        return False


def other_key(sshd: Sshd) -> str:
    return " ".join((sshd.home / ".ssh" / "id_ed25519.pub").read_text().split()[:2])


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def known_hosts(sshd: Sshd, content: str) -> Iterator[None]:
    before = sshd.known_hosts.read_text()
    sshd.known_hosts.write_text(content)
    try:
        yield
    finally:
        sshd.known_hosts.write_text(before)


@contextmanager
def echo_server(family: int, address) -> Iterator[Any]:
    """Listen, and answer each connection with all that it sent, once it has ended."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    content = b""
                    while chunk := connection.recv(65536):
                        content += chunk
                    connection.sendall(content)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def ask(family: int, address, payload: bytes) -> bytes:
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect(address)
        try:
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        content = b""
        while chunk := connection.recv(65536):
            content += chunk
    return content
