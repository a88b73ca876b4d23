"""A real sshd on this machine's loopback, in a table of mounts of its own: its users and its sudoers are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "correct horse"
SMALL = "/mnt/small"
"""A file system of 1 MiB, for the machine alone."""
USERS = {"free": "ALL=(ALL) NOPASSWD: ALL", "asks": "ALL=(ALL) ALL", "bare": ""}
START = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount -t tmpfs tmpfs /mnt
mkdir /mnt/small
mount -t tmpfs -o size=1m tmpfs /mnt/small
for name in passwd shadow group sudoers; do
    mount --bind "$1/$name" "/etc/$name"
done
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""


@dataclass
class Sshd:
    """The machine.

    Attributes:
        folder: its files.
        port: of its sshd.
        home: of the one who connects: keys, known_hosts, config.
        process: sshd.
    """

    folder: Path
    port: int
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def known_hosts(self) -> Path:
        """The file by which the user knows the machine."""
        return self.home / ".ssh" / "known_hosts"

    @property
    def host_key(self) -> str:
        """Its public host key, as known_hosts has it."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def url(self, user: str = "root") -> str:
        """Return how users name it."""
        return f"ssh://{user}@127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection to it; it goes on listening."""
        for pid in _children(self.process.pid):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
