"""What containerd's configuration has to know about the machine; asking leaves nothing behind."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from countersign.nodes.node import Node

CAP_SYS_RESOURCE = 24
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Facts:
    """Facts of one machine.

    Attributes:
        snapshotter: ``overlayfs``, or ``native`` where overlay mounts are refused.
        restrict_oom_score_adj: the machine lacks CAP_SYS_RESOURCE, so no oom score can be lowered.
        platform: such as ``linux/amd64``.
    """

    snapshotter: str
    restrict_oom_score_adj: bool
    platform: str


def gather(node: Node, folder: str) -> Facts:
    """Return the facts; ``folder`` is where containerd's root will be, or a folder above it."""
    machine = node.run(["uname", "-m"]).text or platform.machine()
    return Facts(
        snapshotter="overlayfs" if overlay_works(node, folder) else "native",
        restrict_oom_score_adj=not has_capability(node, CAP_SYS_RESOURCE),
        platform=f"linux/{ARCHITECTURES.get(machine, machine)}",
    )


def has_capability(node: Node, number: int) -> bool:
    """Return whether the bounding set of what we run there has a capability (capabilities(7), CapBnd)."""
    line = node.run(["grep", "^CapBnd:", "/proc/self/status"]).text
    return bool(int(line.split()[1], 16) >> number & 1)


def overlay_works(node: Node, folder: str) -> bool:
    """Try an overlay mount where the snapshots will lie, in a table of mounts that ends with the try."""
    trial = node.run(["mktemp", "-d", "--tmpdir=" + folder, "overlay.XXXXXXXX"]).text
    try:
        layers = [f"{trial}/{name}" for name in ("lower", "upper", "work", "merged")]
        node.run(["mkdir", *layers])
        options = f"lowerdir={layers[0]},upperdir={layers[1]},workdir={layers[2]}"
        mount = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, layers[3]]
        return node.run(mount, check=False).code == 0
    finally:
        node.run(["rm", "-rf", "--", trial])
