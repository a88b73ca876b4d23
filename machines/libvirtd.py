"""A libvirtd of our own, where the system runs none: started by hand, without systemd, and stopped with the machine.

Its fixed folders are replaced, for it alone, by ones of the machine's folder (`nodes.private`): the host's own libvirt
configuration, networks and machines are neither read nor changed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Running
from countersign.nodes.template import render
from machines.needs import find, require

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from machines.place import Place

HERE = Path(__file__).resolve().parent
NAME = "libvirtd"
POOL = "countersign"
FIXED = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run/libvirt")
ASK_WITHIN = 60.0


def uri(place: Place) -> str:
    """Return what libvirt's clients reach it by."""
    return f"qemu+unix:///system?socket={_sockets(place)}/libvirt-sock"


def environment(place: Place) -> dict[str, str]:
    """Return what makes Vagrant use it."""
    return {"LIBVIRT_DEFAULT_URI": uri(place), "COUNTERSIGN_POOL": POOL}


def steps(place: Place) -> list[Step]:
    """Return the steps that start it, with a pool for disks."""
    home = place.folder / "libvirt"
    folders: list[Step] = [Folder(HOST, str(folder), 0o700) for folder in (place.run, home)]
    folders += [Folder(HOST, str(home / _inside(path)), 0o755) for path in FIXED]
    folders += [Folder(HOST, str(_sockets(place)), 0o700), Folder(HOST, str(home / "pool"), 0o700)]
    return [
        *folders,
        File(HOST, str(home / "libvirtd.conf"), render(HERE / "libvirtd.conf.j2", sockets=str(_sockets(place)))),
        File(HOST, str(home / _inside("/etc/libvirt") / "qemu.conf"), HERE / "qemu.conf"),
        Running(_service(place)),
        Pool(place),
    ]


def start(place: Place) -> None:
    """Start it, if it does not run: a machine cannot be destroyed without it."""
    for step in steps(place):
        if step.needed():
            step.apply()


def runs(place: Place) -> bool:
    """Return whether it does."""
    return service.state(place.run, NAME).child is not None


def stop(place: Place) -> None:
    """Stop its networks, with the programs that serve them, and itself."""
    if runs(place):
        for network in _virsh(place, "net-list", "--name").split():
            _virsh(place, "net-destroy", network)
        _virsh(place, "pool-destroy", POOL)
    service.stop(place.run, NAME)
    shutil.rmtree(_sockets(place), ignore_errors=True)


@dataclass(frozen=True)
class Pool:
    """A step: there is a pool for the disks of machines."""

    place: Place

    @property
    def name(self) -> str:
        """What users read."""
        return "storage pool"

    def needed(self) -> bool:
        """Return whether there is none."""
        if not runs(self.place):
            return True
        return POOL not in _virsh(self.place, "pool-list", "--name").split()

    def apply(self) -> None:
        """Make it; it is there while libvirtd runs."""
        home = self.place.folder / "libvirt"
        definition = home / "pool.xml"
        definition.write_bytes(render(HERE / "pool.xml.j2", name=POOL, path=str(home / "pool")))
        _virsh(self.place, "pool-create", str(definition))


def _service(place: Place) -> Service:
    home = place.folder / "libvirt"
    return Service(
        name=NAME,
        argv=(find("libvirtd") or "/usr/sbin/libvirtd", "-f", str(home / "libvirtd.conf")),
        run=str(place.run),
        log=str(place.run / "libvirtd.log"),
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        ready="notify",
        shadows={path: str(home / _inside(path)) for path in FIXED},
    )


def _sockets(place: Place) -> Path:
    """Return the folder of its socket; paths of sockets must be short (unix(7)), so it is not in the state folder."""
    return Path("/run") / f"countersign-{place.tag}"


def _inside(path: str) -> str:
    return path.strip("/").replace("/", "-")


def _virsh(place: Place, *words: str) -> str:
    require("virsh")
    command = [find("virsh") or "virsh", "--quiet", "-c", uri(place), *words]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=ASK_WITHIN, check=False)
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"did not answer within {ASK_WITHIN:g} s", where="libvirtd") from None
    if ended.returncode:
        raise InfrastructureError(f"virsh {words[0]}: {ended.stderr.strip()}", where="libvirtd")
    return ended.stdout
