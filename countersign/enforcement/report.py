"""How a place is, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError, UsageError
from countersign.enforcement import access, doctor
from countersign.enforcement.gate_client import request
from countersign.enforcement.node_units import ACTIVE
from countersign.nodes.systemd import unit_state

if TYPE_CHECKING:
    from countersign.enforcement.problem import Problem
    from countersign.enforcement.runtime import Runtime
    from countersign.nodes.node import Node
    from countersign.nodes.service import State


VERSION = "countersign.containerd-status/v2"


@dataclass(frozen=True)
class ServiceState:
    """How one service of a node is; a pid of 0 is none."""

    node: str
    name: str
    state: str
    up: bool
    pid: int = 0
    restarts: int = 0
    last_end: str = ""


def of_unit(node: Node, unit: str) -> ServiceState:
    """Return how a systemd unit of a node is."""
    found = unit_state(node, unit)
    return ServiceState(
        node=node.name,
        name=unit,
        state=f"{found.active} ({found.sub})",
        up=found.active == ACTIVE,
        pid=found.main_pid,
        restarts=found.restarts,
        last_end="" if found.result == "success" else found.result,
    )


def of_service(found: State) -> ServiceState:
    """Return how a service is that our own supervisor keeps running on this host."""
    return ServiceState(
        node="host",
        name=found.name,
        state=found.state,
        up=found.state == "running",
        pid=found.child.pid if found.child else 0,
        restarts=found.restarts,
        last_end=found.reason,
    )


def document(
    place: str,
    state: Path,
    services: Sequence[ServiceState],
    runtimes: Sequence[Runtime],
    problems: Mapping[str, Sequence[Problem]],
    setup: str,
    version: str = VERSION,
    **more: Any,
) -> dict[str, Any]:
    """Return the document of ``containerd.status --json`` or ``crio.status --json``.

    ``ok`` is true when every service runs, every runtime answers over CRI, every gate has a policy in force, and
    nothing was found by which a node would not enforce it; ``problems`` has what was found. ``warnings`` are no
    reason to say no: registries that a node may not be let in to, versions with known holes.

    Args:
        place: as ``--on`` names it.
        state: the state folder.
        services: of all nodes.
        runtimes: one a node.
        problems: node name → what `countersign.enforcement.doctor` found there.
        setup: the command that sets it up.
        version: of the document.
        more: what the place adds.
    """
    found = [_runtime(runtime) for runtime in runtimes]
    up = bool(runtimes) and all(service.up for service in services)
    told = [(node, each) for node, some in problems.items() for each in some]
    wrong = [doctor.document(place, node, each, setup) for node, each in told if not each.warning]
    return {
        "version": version,
        "ok": up and not wrong and all(not each["error"] and each["policy"] for each in found),
        "place": place,
        "state": str(state),
        "services": [_service(service) for service in services],
        "runtimes": found,
        "problems": wrong,
        "warnings": [
            *(line for runtime in runtimes for line in _warnings(runtime)),
            *({"node": node, "warning": str(each)} for node, each in told if each.warning),
        ],
        **more,
    }


def answered(report: Callable[[], dict[str, Any]], place: str, version: str) -> dict[str, Any]:
    """Return a place's report; one that cannot be had is a report too, whose one problem is the reason.

    Args:
        report: makes it.
        place: as ``--on`` names it.
        version: of the document.
    """
    try:
        return report()
    except UsageError:
        raise
    except CountersignError as error:
        problem = {
            "node": place,
            "problem": str(error),
            "where": error.where,
            "found": error.found,
            "expected": error.expected or "an answer",
            "do": error.do or "see to it that the place can be reached, and ask again",
        }
        return {
            "version": version,
            "ok": False,
            "place": place,
            "services": [],
            "runtimes": [],
            "problems": [problem],
            "warnings": [],
        }


def _service(service: ServiceState) -> dict[str, Any]:
    return {
        "node": service.node,
        "name": service.name,
        "state": service.state,
        "pid": service.pid or None,
        "restarts": service.restarts,
        "lastEnd": service.last_end,
    }


def _runtime(runtime: Runtime) -> dict[str, Any]:
    answer: dict[str, Any] = {"node": runtime.node.name, "version": "", "images": 0, "pods": 0, "notReady": {}}
    try:
        with runtime.client(timeout=5) as client:
            answer["version"] = client.version().version
            answer["images"] = len(client.list_images())
            answer["pods"] = len(client.list_pods())
            answer["notReady"] = {
                key: why for key, why in client.conditions().items() if key in {"RuntimeReady", "NetworkReady"}
            }
        answer["error"] = ""
    except CountersignError as error:
        answer["error"] = str(error)
    return {**answer, **_gate(runtime)}


def _warnings(runtime: Runtime) -> list[dict[str, str]]:
    try:
        found = access.of_runtime(runtime)
    except CountersignError:
        return []  # a node that cannot be asked is among the problems
    return [{"node": runtime.node.name, "warning": line} for line in found]


def _gate(runtime: Runtime) -> Mapping[str, str]:
    try:
        policy = str(request(runtime.node, runtime.layout, "ping", timeout=5).get("policy", ""))
    except CountersignError as error:
        return {"policy": "", "policyError": str(error)}
    return {"policy": policy, "policyError": "" if policy else "no valid policy: everything is refused"}
