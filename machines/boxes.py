"""The box that is built from Debian packages, where no box catalogue can be reached; for lxc and libvirt.

Every stage leaves a whole product in the cache or nothing, so a build that was cut off goes on where it was: Debian's
root filesystem (used by both), then the box of the provider. Their names say all that they depend on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError, UsageError
from machines.needs import require

RECIPE = Path(__file__).resolve().parent / "recipe"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
DISK = "8G"
"""Size of a virtual machine's disk; what is not written takes no room."""
PROVIDERS = ("lxc", "libvirt")
FILES = {  # of the recipe -> where it lies in the box, and its mode
    "interfaces": ("etc/network/interfaces", 0o644),
    "sudoers": ("etc/sudoers.d/vagrant", 0o440),
    "sshd.conf": ("etc/ssh/sshd_config.d/vagrant.conf", 0o644),
    "host-keys.conf": ("etc/systemd/system/ssh.service.d/host-keys.conf", 0o644),
}
HOST_ONLY = (
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
)
"""Units that would work on the host's kernel from within a container."""
UNWANTED = (
    "etc/ssh/ssh_host_*",
    "etc/fstab",
    "etc/resolv.conf",
    "etc/hostname",
    "var/lib/dhcp/*",
    "var/cache/apt/*.bin",
)
"""A left-over fstab would mean the host's disks in a container; the rest belongs to one machine only."""
WRITTEN = {
    "etc/machine-id": "",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/fstab": "# nothing: neither the host's disks in a container, nor a line for the disk that is / already\n",
    "etc/resolv.conf": "# written by DHCP where it names a server\n",  # CRI-O wants one to copy
}
"""What every machine has, with nothing in it of the one that built the box.

Debian's dhclient-script reads fstab before it writes resolv.conf; without the file the shell ends (POSIX, special
built-in utilities: a failed redirection of ``exec``), and dhclient declines the lease that it has just been given.
"""
BUILD_WITHIN = 1800.0


@dataclass(frozen=True)
class Box:
    """The built box of one provider.

    Attributes:
        provider: ``lxc`` or ``libvirt``.
        folder: where it lies in the cache.
    """

    provider: str
    folder: Path

    @property
    def key(self) -> str:
        """What the box is made from, in short."""
        return _key(["packages.txt", "kernel-packages.txt", *_common(), *_own(self.provider)])

    @property
    def vagrant_name(self) -> str:
        """How Vagrant calls it; boxes of different content have different names."""
        return f"countersign-{self.provider}-{self.key}"

    @property
    def path(self) -> Path:
        """The file that Vagrant takes it from."""
        return self.folder / f"{self.vagrant_name}.box"

    @property
    def kernel(self) -> Path:
        """For a virtual machine: the kernel that it is booted with."""
        return self.folder / f"{self.vagrant_name}.vmlinuz"

    @property
    def initrd(self) -> Path:
        """For a virtual machine: the initial RAM disk."""
        return self.folder / f"{self.vagrant_name}.initrd"

    def built(self) -> bool:
        """Return whether it is there, whole."""
        return self.path.is_file()  # the last of the files to be put there


def box(settings: Settings, provider: str) -> Box:
    """Return the built box of a provider; it may not be built yet.

    Raises:
        UsageError: no box is built for this provider.
    """
    if provider not in PROVIDERS:
        raise UsageError(
            "no box is built for it", where=provider, expected=" or ".join(PROVIDERS), do="name a box of the catalogue"
        )
    return Box(provider, settings.cache / "boxes")


def build(settings: Settings, provider: str) -> Box:
    """Return the box of a provider, built as far as it is not there already.

    Raises:
        MissingError: we are not root, or a program that builds it is not installed.
        InfrastructureError: a stage failed.
    """
    wanted = box(settings, provider)
    if wanted.built():
        return wanted
    if os.geteuid() != 0:
        raise MissingError("building a box needs root", do="run as root")
    require("debootstrap", *(["mke2fs", "qemu-img"] if provider == "libvirt" else []))
    root = _root(wanted.folder)
    with output.progress(f"box {wanted.vagrant_name}"), _scratch(wanted.folder) as scratch:
        if provider == "lxc":
            _lxc(root, wanted, scratch)
        else:
            _libvirt(root, wanted, scratch)
    return wanted


@dataclass(frozen=True)
class BoxBuilt:
    """A step: the box of a provider is in the cache."""

    settings: Settings
    provider: str

    @property
    def name(self) -> str:
        """What users read."""
        return f"box {box(self.settings, self.provider).vagrant_name} is built"

    def needed(self) -> bool:
        """Return whether it is not there."""
        return not box(self.settings, self.provider).built()

    def apply(self) -> None:
        """Build it."""
        build(self.settings, self.provider)


def _common() -> list[str]:
    return [*FILES, "not-in-a-container.conf", "vagrant.pub"]


def _own(provider: str) -> list[str]:
    if provider == "lxc":
        return ["lxc-config", "lxc-metadata.json"]
    return ["initramfs.conf", "initramfs-modules", "libvirt-metadata.json"]


def _key(files: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{SUITE} {MIRROR} {DISK} {HOST_ONLY} {UNWANTED} {WRITTEN} {FILES}".encode())
    for name in files:
        digest.update(f"{name} {hashlib.sha256((RECIPE / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def packages(name: str = "packages.txt") -> list[str]:
    """Return the packages that a file of the recipe lists."""
    lines = (RECIPE / name).read_text(encoding="utf-8").splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def _root(folder: Path) -> Path:
    """Return an archive of the root filesystem, whose entries start with ``./rootfs/``."""
    kept = folder / f"root-{_key(['packages.txt', *_common()])}.tar"
    if kept.is_file():
        return kept
    words = packages()
    with output.progress(f"Debian {SUITE} with {len(words)} packages"), _scratch(folder) as scratch:
        root = scratch / "rootfs"
        include = f"--include={','.join(words)}"
        _run(["debootstrap", "--variant=minbase", include, SUITE, str(root), MIRROR], scratch / "log")
        _furnish(root, scratch / "log")
        part = scratch / "product.tar"
        _run(["tar", "--numeric-owner", "-C", str(scratch), "-cf", str(part), "./rootfs"], scratch / "log")
        part.replace(kept)
    return kept


def _furnish(root: Path, log: Path) -> None:
    """Make a machine that Vagrant can log in to out of Debian."""
    for name, (target, mode) in FILES.items():
        _put(RECIPE / name, root / target, mode)
    for unit in HOST_ONLY:
        drop_in = root / "etc/systemd/system" / f"{unit}.d" / "not-in-a-container.conf"
        _put(RECIPE / "not-in-a-container.conf", drop_in, 0o644)
    inside = ["chroot", str(root)]
    _run([*inside, "useradd", "--create-home", "--shell", "/bin/bash", "vagrant"], log)
    home = root / "home/vagrant"
    (home / ".ssh").mkdir(mode=0o700)
    _put(RECIPE / "vagrant.pub", home / ".ssh/authorized_keys", 0o600)
    _run([*inside, "chown", "-R", "vagrant:vagrant", "/home/vagrant/.ssh"], log)
    _clear(root)


def _clear(root: Path) -> None:
    for pattern in UNWANTED:
        for path in root.glob(pattern):
            path.unlink()
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    for name, content in WRITTEN.items():
        (root / name).write_text(content)


def _lxc(root: Path, wanted: Box, scratch: Path) -> None:
    """Make a box of vagrant-lxc (its BOXES.md): metadata.json, lxc-config, rootfs.tar.gz."""
    with (scratch / "rootfs.tar.gz").open("wb") as packed:
        _run(["gzip", "-1", "-c", str(root)], scratch / "log", stdout=packed.fileno())
    shutil.copyfile(RECIPE / "lxc-metadata.json", scratch / "metadata.json")
    shutil.copyfile(RECIPE / "lxc-config", scratch / "lxc-config")
    _pack(scratch, ["metadata.json", "lxc-config", "rootfs.tar.gz"], wanted)


def _libvirt(archive: Path, wanted: Box, scratch: Path) -> None:
    """Make a box of vagrant-libvirt: metadata.json, Vagrantfile, box.img; and what it is booted with, beside it."""
    log = scratch / "log"
    _run(["tar", "--numeric-owner", "-C", str(scratch), "-xf", str(archive)], log)
    root = scratch / "rootfs"
    _kernel(root, log)
    for pattern, kept in (("vmlinuz-*", wanted.kernel), ("initrd.img-*", wanted.initrd)):
        found = sorted((root / "boot").glob(pattern))
        if not found:
            raise InfrastructureError(f"there is no {pattern}", where=str(root / "boot"))
        part = scratch / pattern.replace("*", "kept")
        shutil.copyfile(found[-1], part)
        part.replace(kept)
    disk = scratch / "disk.raw"
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), DISK], log)
    _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(scratch / "box.img")], log)
    disk.unlink()
    shutil.copyfile(RECIPE / "libvirt-metadata.json", scratch / "metadata.json")
    (scratch / "Vagrantfile").write_text("")
    _pack(scratch, ["metadata.json", "Vagrantfile", "box.img"], wanted)


def _kernel(root: Path, log: Path) -> None:
    """Install the kernel, without starting anything; only the chroot's own device nodes are used."""
    _put(RECIPE / "initramfs.conf", root / "etc/initramfs-tools/conf.d/countersign", 0o644)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    inside = ["chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]
    _run([*inside, "apt-get", "update", "-qq"], log)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    _run([*inside, *install, *packages("kernel-packages.txt")], log)
    _put(RECIPE / "initramfs-modules", root / "etc/initramfs-tools/modules", 0o644)
    _run([*inside, "update-initramfs", "-u", "-k", "all"], log)
    policy.unlink()
    _clear(root)


def _pack(scratch: Path, names: Sequence[str], wanted: Box) -> None:
    part = scratch / "product.box"
    _run(["tar", "-C", str(scratch), "-cSf", str(part), *names], scratch / "log")
    part.replace(wanted.path)


def _put(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """Give a folder that is gone afterwards, on the same filesystem as the product."""
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=beside) as name:
        yield Path(name)


def _run(argv: Sequence[str], log: Path, stdout: int | None = None) -> None:
    """Run a program of the build.

    Raises:
        InfrastructureError: it failed; the end of what it wrote is in the text.
    """
    with log.open("ab") as file:
        try:
            ended = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file if stdout is None else stdout,
                stderr=file,
                timeout=BUILD_WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"did not end within {BUILD_WITHIN:g} s", where=argv[0]) from None
    if ended.returncode:
        end = log.read_bytes()[-400:].decode(errors="replace")
        raise InfrastructureError(f"ended with {ended.returncode}: {end}", where=" ".join(argv[:3]))
