"""What this machine must have for Vagrant and for building a box, and the command that brings it."""

from __future__ import annotations

import shutil

from countersign.console.errors import MissingError

PACKAGES = {  # program -> Debian's package
    "vagrant": "vagrant",
    "lxc-start": "lxc",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "sudo": "sudo",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "libvirtd": "libvirt-daemon-system",
    "virsh": "libvirt-clients",
}
LXC = ("vagrant", "vagrant-lxc", "lxc", "dnsmasq-base", "iproute2", "sudo", "debootstrap")
"""All packages that a Debian or Ubuntu host needs for the provider lxc with the built box."""
LIBVIRT = (
    "vagrant",
    "vagrant-libvirt",
    "libvirt-daemon-system",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "dnsmasq-base",
    "debootstrap",
)
"""The same for libvirt."""


def install(*packages: str) -> str:
    """Return the command that installs Debian packages."""
    return f"apt-get install {' '.join(packages)}"


def lacking(*programs: str) -> list[str]:
    """Return those programs that are not here."""
    return [program for program in programs if not find(program)]


def find(program: str) -> str | None:
    """Return where a program lies; system folders that a user's PATH may lack count."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")


def require(*programs: str) -> None:
    """Raise unless all these programs are here.

    Raises:
        MissingError: with the command that installs what is missing.
    """
    missing = lacking(*programs)
    if missing:
        are = "is" if len(missing) == 1 else "are"
        do = f"run {install(*dict.fromkeys(PACKAGES.get(program, program) for program in missing))}"
        raise MissingError(f"{', '.join(missing)} {are} not installed", do=do)
