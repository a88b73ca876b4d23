"""Task: what a cluster itself needs, as pins for the policy (it becomes ``policy.pin``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "from_node": "take them from the nodes of the Kind cluster, as they are now",
        "kubeconfig": "take them from the system's pods of any cluster: this FILE leads there",
        "json": "one JSON document on stdout",
    }
)
def pin(context: Context, from_node: bool = False, kubeconfig: str = "", json: bool = False) -> None:
    """Show the images that a cluster itself needs, by digest, for `pinned` in policy.yaml; changes nothing.

    Without an option: those that set-up took before enforcement.

    Example: ./inv policy.pin --from-node
    """
    from containerd import pins
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import UsageError
    from countersign.enforcement.policy import read_pins
    from kind.cluster import folder, require

    settings = settings_from(context)
    taken = read_pins(folder(settings) / "pins.json")
    found = taken
    if from_node and kubeconfig:
        raise UsageError("got --from-node and --kubeconfig", expected="one of them")
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise UsageError("there is no such file", where=kubeconfig)
        found, unknown = pins.running(path)
        for name in unknown:
            output.warn(f"{name}: no registry's digest is known of it; see its nodes: countersign-gate install --plan")
    elif from_node:
        cluster = require(settings)
        cluster.require_running()
        found = pins.take([each.node for each in cluster.nodes], cluster.kubeconfig)
    elif not taken:
        raise UsageError("set-up has taken none yet", do="run ./inv containerd.setup --on kind, or use --from-node")
    if json:
        output.emit_json({"version": "countersign.pins/v1", "pinned": found, "new": sorted({*found} - {*taken})})
        return
    for each in found:
        output.emit_text(f"  - {each}")
    new = sorted({*found} - {*taken})
    output.say(f"{len(found)} images, {len(new)} not pinned by set-up" if from_node else f"{len(found)} images")
