"""How an instance is, for people and for programs."""

from __future__ import annotations

from typing import Any

from console.errors import CountersignError
from containerd.instance import Instance
from enforcement.ask import ask


def report(instance: Instance) -> dict[str, Any]:
    """Return the document of ``containerd.status --json``.

    ``ok`` is true when every service runs, containerd answers over CRI, and the gate has a
    policy in force.
    """
    services = [
        {
            "name": state.name,
            "state": state.state,
            "pid": state.child.pid if state.child else None,
            "restarts": state.restarts,
            "lastEnd": state.reason,
        }
        for state in instance.states()
    ]
    runtime, gate = _runtime(instance), _gate(instance)
    up = all(entry["state"] == "running" for entry in services)
    return {
        "version": "countersign.containerd-status/v1",
        "ok": up and not runtime["error"] and bool(gate["policy"]),
        "node": instance.node.name,
        "state": str(instance.state),
        "socket": instance.socket,
        "services": services,
        "runtime": runtime,
        "gate": gate,
    }


def _runtime(instance: Instance) -> dict[str, Any]:
    answer: dict[str, Any] = {"version": "", "images": 0, "pods": 0, "notReady": {}, "error": ""}
    try:
        with instance.client(timeout=5) as client:
            answer["version"] = client.version().version
            answer["images"] = len(client.list_images())
            answer["pods"] = len(client.list_pods())
            answer["notReady"] = {
                key: why for key, why in client.conditions().items() if key in {"RuntimeReady", "NetworkReady"}
            }
    except CountersignError as error:
        answer["error"] = str(error)
    return answer


def _gate(instance: Instance) -> dict[str, str]:
    try:
        policy = str(ask(instance.node, instance.layout, "ping", timeout=5).get("policy", ""))
    except CountersignError as error:
        return {"policy": "", "error": str(error)}
    return {"policy": policy, "error": "" if policy else "no valid policy: everything is refused"}
