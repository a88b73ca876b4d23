"""A machine with a real sshd, and ways to open it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.nodes import connect
from countersign.nodes.ssh import SshNode
from tests.ssh.machine import PASSWORD, START, USERS, Sshd


@pytest.fixture(scope="module")  # not longer: what comes after needs the real home
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """The machine, which knows our key; the user's home folder is one of our own, too."""
    folder = tmp_path_factory.mktemp("sshd")
    for parent in (folder, *folder.parents):
        if parent.is_relative_to(Path("/tmp")) and parent != Path("/tmp"):
            parent.chmod(0o755)
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for key in (folder / "host_key", home / ".ssh" / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    port = _free_port()
    _write_users(folder)
    shutil.copy(home / ".ssh" / "id_ed25519.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nPermitRootLogin yes\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["unshare", "-m", "sh", "-ec", START, "start", folder], stderr=log, stdout=log)
    machine = Sshd(folder, port, home, process)
    machine.known_hosts.write_text(f"[127.0.0.1]:{port} {machine.host_key}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        _wait(machine)
        yield machine
    machine.cut()
    process.terminate()
    process.wait(10)


@pytest.fixture
def connect_as(sshd: Sshd) -> Iterator[Callable[..., SshNode]]:
    """Open the machine as a user of it, with a password for sudo."""
    opened: list[SshNode] = []

    def opener(user: str = "root", password: str = "") -> SshNode:
        opened.append(connect.ssh(sshd.url(user), Settings(sudo_password=password)))
        return opened[-1]

    yield opener
    for node in opened:
        node.close()


@pytest.fixture
def node(connect_as: Callable[..., SshNode]) -> SshNode:
    """The machine as its root."""
    return connect_as()


def _write_users(folder: Path) -> None:
    secret = subprocess.run(
        ["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True
    ).stdout.strip()
    passwd = Path("/etc/passwd").read_text().splitlines()
    # bash reads the user's .bashrc for every command of sshd's, and this machine's is not ours
    passwd = ["root:x:0:0::/root:/bin/sh" if line.startswith("root:") else line for line in passwd]
    shadow = ["root:*:19000:0:99999:7:::"]
    for number, name in enumerate(USERS, 4200):
        passwd.append(f"{name}:x:{number}:65534::{folder}:/bin/sh")
        shadow.append(f"{name}:{secret}:19000:0:99999:7:::")
    (folder / "passwd").write_text("\n".join(passwd) + "\n")
    (folder / "shadow").write_text("\n".join(shadow) + "\n")
    (folder / "group").write_text(Path("/etc/group").read_text())
    rules = "".join(f"{name} {rule}\n" for name, rule in USERS.items() if rule)
    (folder / "sudoers").write_text(f"Defaults lecture=never\nroot ALL=(ALL:ALL) ALL\n{rules}")
    (folder / "sudoers").chmod(0o440)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(machine: Sshd) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and machine.process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", machine.port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError((machine.folder / "log").read_text())
