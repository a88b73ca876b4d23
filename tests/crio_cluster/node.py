"""A machine with CRI-O as a node of the control plane on this host."""

from __future__ import annotations

from pathlib import Path

from countersign.console.config import Settings
from countersign.nodes.facts import CAP_SYS_RESOURCE, has_capability
from countersign.nodes.node import Node
from countersign.tools.resolver import tool
from tests.crio_cluster import control_plane

FILES = Path(__file__).with_name("files")
CONFIG = "/etc/kubernetes"
TAINT = "countersign.dev/not-enforcing=true:NoExecute"


def join(settings: Settings, node: Node, server: str, folder: Path, name: str) -> None:
    """Have the machine's kubelet join, with the taint; its CRI-O runs.

    Args:
        settings: the user's.
        node: the machine.
        server: the API server's URL.
        folder: the control plane's.
        name: of the node.
    """
    if not has_capability(node, CAP_SYS_RESOURCE):
        node.put(FILES / "runc-of-less", "/usr/local/sbin/runc-of-less", 0o755)
        node.put(FILES / "06-less.conf", "/etc/crio/crio.conf.d/06-less.conf")
        node.run(["systemctl", "restart", "crio"])
    node.run(["mkdir", "-p", f"{CONFIG}/manifests"])
    for program in ("kubelet", "kube-proxy"):
        node.put(tool(program, settings), f"/usr/bin/{program}", 0o755)
        node.put(FILES / f"{program}.yaml", f"{CONFIG}/{program}.yaml")
        node.put(FILES / f"{program}.service", f"/etc/systemd/system/{program}.service")
    for program, secret in (("kubelet", control_plane.token(name)), ("kube-proxy", control_plane.PROXY)):
        config = control_plane.kubeconfig(server, f"{CONFIG}/ca.crt", secret)
        node.put(config.encode(), f"{CONFIG}/{program}.conf", 0o600)
    node.put((folder / "ca.crt").read_bytes(), f"{CONFIG}/ca.crt")
    address = node.run(["hostname", "--all-ip-addresses"]).text.split()[0]
    flags = f"--hostname-override={name} --node-ip={address} --register-with-taints={TAINT}"
    gateway = server.removeprefix("https://").partition(":")[0]
    node.put(f"NAME={name}\nGATEWAY={gateway}\nFLAGS={flags}\n".encode(), f"{CONFIG}/node.env")
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "enable", "--now", "--quiet", "kubelet", "kube-proxy"])
