"""Small machines: each a systemd, an sshd and a containerd of its own, on this machine's files, which it cannot change.

They share this machine's network: each listens at a loopback address of its own. What they write is in memory.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import ROOT, Settings
from countersign.console.errors import InfrastructureError
from countersign.nodes.template import render
from countersign.tools.images import pause_layout
from countersign.tools.resolver import install
from machines.needs import require

HERE = Path(__file__).resolve().parent / "machine"
PORT = 2222
BEGINS_WITHIN = 120.0
NETWORK = ROOT / "countersign/cri/10-loopback.conflist"
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
TOOLS = (*PROGRAMS, "cni-loopback")
MASKED = (
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount"),
    *("sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount"),
    *("systemd-binfmt.service", "systemd-hwdb-update.service", "systemd-journal-flush.service"),
    *("systemd-logind.service", "systemd-modules-load.service", "systemd-networkd.service"),
    *("systemd-random-seed.service", "systemd-remount-fs.service", "systemd-resolved.service"),
    *("systemd-sysctl.service", "systemd-timesyncd.service", "systemd-tmpfiles-setup.service"),
    *("systemd-tmpfiles-setup-dev.service", "systemd-udev-trigger.service", "systemd-udevd.service"),
    *("systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-update-utmp.service"),
)
"""Units that would work on the host's kernel, or that such a machine has no use for."""


@dataclass(frozen=True)
class Small:
    """One machine.

    Attributes:
        number: from 1.
        root: the folder of all.
    """

    number: int
    root: Path

    @property
    def name(self) -> str:
        """Its host name."""
        return f"small{self.number:02}"

    @property
    def folder(self) -> Path:
        """Its files on this machine."""
        return self.root / self.name

    @property
    def upper(self) -> Path:
        """What it has beside this machine's files."""
        return self.folder / "upper"

    @property
    def host(self) -> str:
        """Where its sshd listens."""
        return f"127.7.0.{self.number}"

    @property
    def known(self) -> str:
        """Its line of known_hosts."""
        key = (self.upper / "etc/ssh/small_key.pub").read_text().split()
        return f"[{self.host}]:{PORT} {key[0]} {key[1]}\n"

    def url(self, user: str = "root") -> str:
        """Return how users name it."""
        return f"ssh://{user}@{self.host}:{PORT}"

    def write(self, common: Path, public: str) -> None:
        """Write its files; nothing runs yet."""
        ssh = self.upper / "etc/ssh"
        ssh.mkdir(parents=True)
        (self.upper / "etc/hostname").write_text(f"{self.name}\n")
        (self.upper / "etc/machine-id").write_text(f"{self.number:032x}\n")
        (ssh / "small.conf").write_bytes(render(HERE / "sshd.conf.j2", address=self.host, port=PORT))
        (ssh / "small_users").write_text(public)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "small_key"], check=True)
        config = render(HERE / "lxc.conf.j2", name=self.name, common=str(common), upper=str(self.upper))
        (self.folder / "lxc.conf").write_bytes(config)

    def start(self) -> None:
        """Start it; `ready` says whether it answers."""
        self._lxc("start", "--rcfile", str(self.folder / "lxc.conf"), "--logfile", str(self.folder / "log"))

    def ready(self) -> None:
        """Wait until its containerd has what it begins with.

        Raises:
            InfrastructureError: it does not come up.
        """
        end = time.monotonic() + BEGINS_WITHIN
        while self.run("systemctl", "is-active", "containerd", "sshd-small", check=False).split() != ["active"] * 2:
            if time.monotonic() > end:
                raise InfrastructureError("does not come up", where=str(self.folder / "log"))
            time.sleep(0.2)

    def run(self, *argv: str, check: bool = True, given: str = "") -> str:
        """Run a command in it as root, and return its stdout."""
        command = ["lxc-attach", f"--lxcpath={self.root}", f"--name={self.name}", "--clear-env", "--", *argv]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise InfrastructureError(done.stderr.strip(), where=f"{self.name}: {' '.join(argv)}")
        return done.stdout

    def pid(self) -> int:
        """Return its init's process ID on this machine."""
        told = ["lxc-info", f"--lxcpath={self.root}", f"--name={self.name}", "--pid", "--no-humanize"]
        return int(subprocess.run(told, capture_output=True, text=True, check=True).stdout)

    def anew(self) -> None:
        """Make it another machine, with nothing of what it had, while it is off; it keeps its name and its sshd's."""
        for path in self.upper.iterdir():
            if path.name != "etc":
                shutil.rmtree(path)
        for path in (self.upper / "etc").iterdir():
            if path.is_dir() and path.name != "ssh":
                shutil.rmtree(path)
        (self.upper / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")

    def stop(self) -> None:
        """Cut its power, where it runs."""
        self._lxc("stop", "--kill", check=False)

    def _lxc(self, verb: str, *options: str, check: bool = True) -> None:
        subprocess.run(
            [f"lxc-{verb}", f"--lxcpath={self.root}", f"--name={self.name}", *options],
            check=check,
            capture_output=True,
        )


def needs() -> None:
    """Raise MissingError where this machine lacks what they are made of."""
    require("lxc-start", "lxc-attach", "lxc-stop", "systemctl", "sshd", "ssh-keygen", "mount")


@contextmanager
def machines(settings: Settings, root: Path, count: int, programs: Sequence[Path] = ()) -> Iterator[list[Small]]:
    """Run so many machines; their user's home, with key and known_hosts, is ``root/home``; all goes at the end.

    Args:
        programs: that each of them has in ``/opt/countersign``, under the same names.
    """
    needs()
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "countersign-small", root], check=True)
    made = [Small(number, root) for number in range(1, count + 1)]
    try:
        _common(settings, root / "common")
        for program in programs:
            (root / "common/opt/countersign").mkdir(exist_ok=True)
            shutil.copy(program, root / "common/opt/countersign")
        ssh = root / "home/.ssh"
        ssh.mkdir(parents=True, mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "id_ed25519"], check=True)
        for machine in made:
            machine.write(root / "common", (ssh / "id_ed25519.pub").read_text())
            machine.start()
        (ssh / "known_hosts").write_text("".join(machine.known for machine in made))
        for machine in made:
            machine.ready()
        yield made
    finally:
        for machine in made:
            machine.stop()
        subprocess.run(["umount", "--lazy", root], check=True)


def _common(settings: Settings, common: Path) -> None:
    """Write what all have: containerd with its sandbox image, a network for pods, no unit that is for hosts."""
    units, programs = common / "etc/systemd/system", common / "usr/local/bin"
    for folder in (units, programs, common / "opt/cni/bin", common / "etc/cni/net.d", common / "etc/containerd"):
        folder.mkdir(parents=True)
    found = install(TOOLS, settings)
    for name in PROGRAMS:
        shutil.copy(found[name], programs / name)
    shutil.copy(found["cni-loopback"], common / "opt/cni/bin/loopback")
    shutil.copy(NETWORK, common / "etc/cni/net.d")
    shutil.copy(HERE / "containerd.toml", common / "etc/containerd/config.toml")
    (common / "etc/fstab").touch()
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    for name in ("containerd.service", "sshd-small.service", "machine.target"):
        shutil.copy(HERE / name, units)
    with tarfile.open(common / "opt/pause.tar", "w") as archive:
        archive.add(pause_layout(settings), ".")


def named(machines: Sequence[Small]) -> str:
    """Return the machines as ``--on`` takes them."""
    return ",".join(machine.url() for machine in machines)
