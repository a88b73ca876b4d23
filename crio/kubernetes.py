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


def steps(node: Node, family: str) -> list[Step]:
    """Return the steps that make a machine with CRI-O a cluster that takes pods.

    Pods are connected by the plain bridge that CRI-O has already; the node keeps no taint (`files/kubeadm.yaml`).
    """
    return [
        Installed(node, family, PACKAGES, held=True),
        File(node, MODULES, FILES / "modules.conf"),
        File(node, SYSCTL, FILES / "sysctl.conf"),
        Kernel(node),
        Folder(node, "/etc/kubernetes"),
        File(node, CONFIG, FILES / "kubeadm.yaml"),
        Cluster(node),
    ]


@dataclass(frozen=True)
class Kernel:
    """A step: the kernel has the modules and settings that kubeadm asks for."""

    node: Node
    name: str = "kernel modules and settings"

    def needed(self) -> bool:
        """Return whether a setting is missing or off; the bridge's are there only with its module."""
        keys = [line.split(b"=")[0].strip().decode() for line in _lines()]
        shown = self.node.run(["sysctl", "--values", *keys], check=False)
        return shown.text.split() != ["1"] * len(keys)

    def apply(self) -> None:
        """Load and set them."""
        self.node.run(["modprobe", "--all", "overlay", "br_netfilter"])
        self.node.run(["sysctl", "--quiet", "--load", SYSCTL])


@dataclass(frozen=True)
class Cluster:
    """A step: kubeadm has made the cluster."""

    node: Node
    name: str = "cluster of one node"

    def needed(self) -> bool:
        """Return whether there is none."""
        return not self.node.exists(ADMIN)

    def apply(self) -> None:
        """Make it; what a failed attempt left is reset, so that it can be tried again.

        Raises:
            CommandError: kubeadm failed.
        """
        self.node.run(["systemctl", "enable", "--quiet", "kubelet.service"])
        try:
            self.node.run(["kubeadm", "init", f"--config={CONFIG}"], timeout=INIT_WITHIN)
        except BaseException:
            self.node.run(["kubeadm", "reset", "--force"], check=False, timeout=INIT_WITHIN)
            raise


def _lines() -> list[bytes]:
    lines = (FILES / "sysctl.conf").read_bytes().splitlines()
    return [line for line in lines if b"=" in line and not line.startswith(b"#")]
