"""A bridge of our own with DHCP, for containers: they and this host reach each other, and nothing else."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.service import Service
from countersign.nodes.steps import Running
from machines.needs import find, require

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from machines.place import Place

DHCP = "dhcp"
FIRST = 64
SUBNETS = tuple(f"10.98.{third}" for third in range(FIRST, 256))
"""Which subnets are tried, from one that the machine's tag picks."""


def free_subnet(place: Place) -> str:
    """Return a /24 that nothing on this host routes to or has, such as ``10.98.7``.

    Raises:
        InfrastructureError: all are taken.
    """
    require("ip")
    taken = _networks()
    start = int(place.tag, 16) % len(SUBNETS)
    for subnet in (*SUBNETS[start:], *SUBNETS[:start]):
        if not any(ipaddress.ip_network(f"{subnet}.0/24").overlaps(each) for each in taken):
            return subnet
    raise InfrastructureError("every subnet of ours is taken", where="10.98.64.0 to 10.98.255.0")


@dataclass(frozen=True)
class Bridge:
    """A step: the bridge is there, with its address, and up."""

    interface: str
    subnet: str

    @property
    def name(self) -> str:
        """What users read."""
        return f"bridge {self.interface} ({self.subnet}.0/24)"

    def needed(self) -> bool:
        """Return whether it is missing, down, or has another address."""
        shown = _ip_json("address", "show", "dev", self.interface)
        return not any(
            "UP" in link["flags"] and any(each["local"] == f"{self.subnet}.1" for each in link["addr_info"])
            for link in shown
        )

    def apply(self) -> None:
        """Make it."""
        if not _ip_json("link", "show", "dev", self.interface):
            HOST.run(["ip", "link", "add", "name", self.interface, "type", "bridge"])
        HOST.run(["ip", "address", "replace", f"{self.subnet}.1/24", "dev", self.interface])
        HOST.run(["ip", "link", "set", "dev", self.interface, "up"])


def steps(place: Place, subnet: str) -> list[Step]:
    """Return the steps that bring up the bridge and its DHCP server."""
    return [Bridge(place.bridge, subnet), Running(_dhcp(place, subnet))]


def remove(place: Place) -> None:
    """Take down DHCP server and bridge; there may be none.

    Raises:
        InfrastructureError: one of them stays.
    """
    service.stop(place.run, DHCP)
    if _ip_json("link", "show", "dev", place.bridge):
        ended = subprocess.run(["ip", "link", "delete", "dev", place.bridge], capture_output=True, check=False)
        if ended.returncode:
            raise InfrastructureError(ended.stderr.decode(errors="replace").strip(), where=place.bridge)


def _dhcp(place: Place, subnet: str) -> Service:
    """Return dnsmasq as a DHCP server of this bridge only: no DNS, no files of the host's dnsmasq, no router."""
    argv = (
        find("dnsmasq") or "/usr/sbin/dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--bind-interfaces",
        f"--interface={place.bridge}",
        "--except-interface=lo",
        f"--dhcp-range={subnet}.10,{subnet}.250,255.255.255.0,infinite",
        "--dhcp-option=option:router",
        "--dhcp-option=option:dns-server",
        f"--dhcp-leasefile={place.run}/leases",
        "--dhcp-authoritative",
        "--no-ping",
        "--user=root",
        "--pid-file",
    )
    return Service(name=DHCP, argv=argv, run=str(place.run), log=str(place.run / "dhcp.log"), env={})


def _networks() -> list[ipaddress.IPv4Network]:
    """Return what the host's routes and addresses cover, without the default route."""
    found = [str(route.get("dst", "default")) for route in _ip_json("-4", "route", "show", "table", "all")]
    return [ipaddress.IPv4Network(text, strict=False) for text in found if text != "default"]


def _ip_json(*words: str) -> list[dict[str, Any]]:
    ended = subprocess.run([find("ip") or "ip", "-json", *words], capture_output=True, check=False)
    found: list[dict[str, Any]] = json.loads(ended.stdout or b"[]") if ended.returncode == 0 else []
    return found
