"""A fresh machine with systemd and containerd, on which packages are installed and images started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from containerd.setup_vm import setup_vm
from countersign.console.config import Settings
from countersign.console.errors import MissingError
from countersign.cri.client import Client
from countersign.cri.model import Container
from countersign.nodes.node import Node, Result
from machines import boxes, needs, providers, vagrant
from machines.remote import open_node
from tests.vagrant.own import bring_pause_image

NAME = "countersign-gate"
UNIT = f"{NAME}.service"
LISTED = (
    r'find /etc /usr /opt -xdev -type f -printf "%p %m %U %G %s %T@\n" | sort; '
    'find /etc /usr /opt /var/log -xdev -name "*countersign*" | sort; '
    'find /var/lib /run -maxdepth 1 -name "*countersign*"'
)
"""Files with their times, and whatever bears our name."""
COMMANDS = {
    "deb": {"install": "dpkg -i", "remove": f"apt-get purge -y -q {NAME}"},
    "rpm": {"install": "rpm -U --nodeps", "remove": f"rpm -e {NAME}"},
}


@dataclass(frozen=True)
class Fresh:
    """The machine.

    Attributes:
        node: how it is reached, as root.
        scratch: a folder on this side.
    """

    node: Node
    scratch: Path

    def sh(self, script: str, *, check: bool = True) -> Result:
        """Run a script there."""
        return self.node.run(["sh", "-c", script], check=check, timeout=300)

    def listed(self) -> str:
        """Return what lies there."""
        return self.sh(LISTED).text

    def install(self, package: Path) -> str:
        """Install a package, or another version of it; return what was said."""
        there = f"/root/{package.name}"
        self.node.put(package, there)
        done = self.sh(f"{COMMANDS[package.suffix[1:]]['install']} {there} && rm {there}")
        return done.text + done.stderr.decode()

    def remove(self, packager: str, *, check: bool = True) -> Result:
        """Take the package off, with what it had configured."""
        return self.sh(COMMANDS[packager]["remove"], check=check)

    def pid(self) -> int:
        """Return the gate's process; 0 where none runs."""
        return int(self.sh(f"systemctl show --property=MainPID --value {UNIT}").text)

    def runs(self) -> str:
        """Return the version of the gate that runs."""
        return self.sh(f"/proc/{self.pid()}/exe version").text

    def bring(self, name: str) -> None:
        """Install Debian's package of a name with what it needs; this host fetches it: the machine has no way out."""
        status, archives = self.scratch / "status", self.scratch / name
        status.write_text(self.sh("cat /var/lib/dpkg/status").text)
        (archives / "partial").mkdir(parents=True)
        options = (f"Dir::State::status={status}", f"Dir::Cache::archives={archives}", "Debug::NoLocking=1")
        argv = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only"]
        argv += [word for each in options for word in ("-o", each)]
        ended = subprocess.run([*argv, "install", name], capture_output=True, text=True, check=False)
        found = sorted(archives.glob("*.deb"))
        if ended.returncode or not found:
            pytest.skip(f"this host's apt has no {name} for the machine: {ended.stderr.strip().splitlines()[-1:]}")
        self.node.run(["mkdir", "/root/brought"])
        for path in found:
            self.node.put(path, f"/root/brought/{path.name}")
        self.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /root/brought/*.deb && rm -r /root/brought")

    def client(self) -> Client:
        """Return a connection to containerd's CRI."""
        return Client(self.node.forward("/run/containerd/containerd.sock"))

    def start(self, image: str, *, pull: bool = True) -> None:
        """Pull an image of ours and start it, as a kubelet does."""
        with self.client() as client:
            if pull:
                client.pull(image)
            found = client.image_status(image)
            assert found is not None
            with client.pod() as pod:
                client.start(client.create(pod, Container(found.id, written=image, command=(f"/{NAME}", "version"))))


@contextmanager
def fresh(settings: Settings, registry: str, scratch: Path) -> Iterator[Fresh]:
    """Make the machine; its containerd reaches this host's ``registry`` by its name. Skips where it cannot be made."""
    chosen = replace(settings.vagrant, provider="lxc", box="built", machine="packages", bridge="")
    settings = replace(settings, state=scratch / "state", vagrant=chosen, node="vagrant")
    try:
        providers.check("lxc")
        if not boxes.box(settings, "lxc").built():
            needs.require("debootstrap")
    except MissingError as missing:
        pytest.skip(str(missing))
    try:
        setup_vm(replace(settings, node="auto"), plan=False)
        node = open_node(settings)
        url = node.expose(int(registry.rpartition(":")[2]))
        folder = f"/etc/containerd/certs.d/{registry}"
        node.run(["mkdir", "-p", folder])
        node.put(f'server = "{url}"\n'.encode(), f"{folder}/hosts.toml")
        made = Fresh(node, scratch)
        named = made.sh('containerd config dump | sed -n "s/.*sandbox = .\\(.*\\)./\\1/p"').text.split()[0]
        bring_pause_image(settings, node, named, scratch)
        yield made
    finally:
        vagrant.destroy(settings)
