"""The gate as a systemd unit of a node."""

from __future__ import annotations

from pathlib import Path

from countersign.enforcement.layout import Layout
from countersign.enforcement.node_units import GATE
from countersign.nodes.node import Node
from countersign.nodes.steps import File, Folder, Group
from countersign.nodes.systemd import UnitRuns

UNIT_FILE = Path(__file__).resolve().parents[2] / "gate" / "internal" / "install" / "units" / GATE
"""The gate is built with it, for its install puts it in place as well."""
WITHOUT_RESOURCE = UNIT_FILE.with_name("without-sys-resource.conf")
SYSTEMD = "/etc/systemd/system"


def group(node: Node, layout: Layout, *, lacks_resource: bool) -> Group:
    """Return the step that puts the unit on a node and makes it run.

    Args:
        node: the node.
        layout: where the gate's files are.
        lacks_resource: the machine lacks CAP_SYS_RESOURCE, so no unit of it can lower its OOM score.
    """
    units: list[Folder | File] = [
        Folder(node, f"{SYSTEMD}/{GATE}.d"),
        File(node, f"{SYSTEMD}/{GATE}", UNIT_FILE.read_bytes()),
    ]
    if lacks_resource:
        units.append(File(node, f"{SYSTEMD}/{GATE}.d/{WITHOUT_RESOURCE.name}", WITHOUT_RESOURCE.read_bytes()))
    read_by_gate = [layout.gate, layout.gate_config, *(unit.path for unit in units if isinstance(unit, File))]
    return Group(node, f"unit {GATE}", [*units, UnitRuns(node, GATE, read_by_gate, hands_over=True)])
