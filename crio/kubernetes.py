"""A cluster of one node over CRI-O, by kubeadm; optional, for a machine of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.nodes.steps import File, Folder
from crio.distribution import Installed

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

FILES = Path(__file__).resolve().parent / "files"
PACKAGES = ("kubelet", "kubeadm", "kubectl", "kubernetes-cni")
MODULES = "/etc/modules-load.d/countersign.conf"
SYSCTL = "/etc/sysctl.d/99-countersign.conf"
CONFIG = "/etc/kubernetes/kubeadm-countersign.yaml"
ADMIN = "/etc/kubernetes/admin.conf"
INIT_WITHIN = 900.0


def steps(family: str) -> list[Step[Node]]:
    """Return the steps that make a machine with CRI-O a cluster that takes pods.

    Pods are connected by the plain bridge that CRI-O has already; the node keeps no taint (`files/kubeadm.yaml`).
    """
    return [
        Installed(family, PACKAGES, held=True),
        File(MODULES, FILES / "modules.conf"),
        File(SYSCTL, FILES / "sysctl.conf"),
        Kernel(),
        Folder("/etc/kubernetes"),
        File(CONFIG, FILES / "kubeadm.yaml"),
        Cluster(),
    ]


@dataclass(frozen=True)
class Kernel:
    """A step: the kernel has the modules and settings that kubeadm asks for."""

    name: str = "kernel modules and settings"

    def needed(self, node: Node) -> bool:
        """Return whether a setting is missing or off; the bridge's are there only with its module."""
        keys = [line.split(b"=")[0].strip().decode() for line in _lines()]
        shown = node.run(["sysctl", "--values", *keys], check=False)
        return shown.text.split() != ["1"] * len(keys)

    def apply(self, node: Node) -> None:
        """Load and set them."""
        node.run(["modprobe", "--all", "overlay", "br_netfilter"])
        node.run(["sysctl", "--quiet", "--load", SYSCTL])


@dataclass(frozen=True)
class Cluster:
    """A step: kubeadm has made the cluster."""

    name: str = "cluster of one node"

    def needed(self, node: Node) -> bool:
        """Return whether there is none."""
        return not node.exists(ADMIN)

    def apply(self, node: Node) -> None:
        """Make it; what a failed attempt left is reset, so that it can be tried again.

        Raises:
            CommandError: kubeadm failed.
        """
        node.run(["systemctl", "enable", "--quiet", "kubelet.service"])
        try:
            node.run(["kubeadm", "init", f"--config={CONFIG}"], timeout=INIT_WITHIN)
        except BaseException:
            node.run(["kubeadm", "reset", "--force"], check=False, timeout=INIT_WITHIN)
            raise


def _lines() -> list[bytes]:
    lines = (FILES / "sysctl.conf").read_bytes().splitlines()
    return [line for line in lines if b"=" in line and not line.startswith(b"#")]
