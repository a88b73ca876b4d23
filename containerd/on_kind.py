"""Containerd in the nodes of a Kind cluster, as a place for the tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd import fleet, pins
from containerd.machine import Machine
from containerd.preinstalled import Preinstalled
from countersign.console.config import Settings, record_place, recorded_place
from countersign.console.errors import UsageError
from countersign.console.steps import NotThereYet, Step, StepResult, run_steps
from countersign.enforcement import policy, proof, record
from countersign.enforcement.node_units import CONTAINERD, GATE, KUBELET
from countersign.nodes.each import side_by_side
from countersign.nodes.host import HOST
from kind import cluster as clusters
from kind import engine
from kind.cluster import TAINT, Cluster

if TYPE_CHECKING:
    from docker import DockerClient

    from countersign.enforcement.additions import Addition, Lab
    from countersign.oci.registry import Registry

PLACE = "kind"
LOGS = {"containerd": CONTAINERD, "gate": GATE, "kubelet": KUBELET}
ADMIN = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]
AFTERWARDS = (
    "the demo's registries",
    "images that the cluster needs, pinned by digest",
    "gate, hook, verifier and policy on every node",
)


class OnKind:
    """See `containerd.backend.Backend`."""

    def __init__(self, settings: Settings, lab: Lab) -> None:
        self.settings = settings
        self._addition = lab.for_cluster(settings)
        self._home = clusters.folder(settings)

    def setup(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Make the cluster if there is none, and bring every node of it under enforcement."""
        if not self._addition.keys_to_come():
            policy.render(self.settings.policy, ())
        existed = clusters.find(self.settings) is not None
        try:
            results = run_steps(self._steps(keep=keep, plan=plan), plan=plan)
        except BaseException:
            if not (existed or keep or plan):
                self._remove()
            raise
        if not plan:
            record_place(self.settings.state, PLACE)
        return results

    def _steps(self, *, keep: bool, plan: bool) -> Iterator[Step]:
        """Yield the steps; what comes after the cluster can be told only once there is one."""
        from countersign.console import output
        from countersign.tools.resolver import install

        yield from self._addition.prepared()
        preinstall = (
            Preinstalled(self.settings, self._addition, self._pins) if self.settings.kind.preinstalled else None
        )
        yield clusters.Exists(self.settings, keep, preinstall)
        if plan and clusters.find(self.settings) is None:
            yield from map(NotYet, AFTERWARDS)
            return
        found = self.cluster()
        programs = install(fleet.TOOLS, self.settings)
        yield from self._addition.running()
        nodes = [each.node for each in found.nodes]
        together = fleet.gather(self.settings, nodes, self._addition, self._pins)
        for line in together.warnings():
            output.warn(line)
        yield PinsTaken(found, self._pins, tuple(map(together.sandbox_of, together.machines)))
        if plan and not self._pins.is_file():
            yield NotYet(AFTERWARDS[-1])
            return
        yield from together.steps(policy.read_pins(self._pins), programs, keys_to_come=self._addition.keys_to_come())
        if plan and not self._addition.keys_to_come():
            together.foresee(policy.read_pins(self._pins), programs)
        if not plan:
            together.remember(policy.read_pins(self._pins), programs)
            with output.progress(f"{proof.CLAIM}, on every node"):
                proven = together.prove()
            for line in together.told():
                output.say(line)
            together.show(proven)
        yield Untainted(found)

    def require_up(self) -> None:
        """See `Backend.require_up`."""
        self.cluster().require_running()
        side_by_side(Machine.require_up, self.machines())

    def runtime(self) -> Machine:
        """See `Backend.runtime`; the first worker."""
        return self._fleet(self.cluster().workers[:1])[0]

    def workers(self) -> list[Machine]:
        """Return the workers of the cluster."""
        return self._fleet(self.cluster().workers)

    def load(self, archive: Path) -> None:
        """Load the images of an archive into every node, past every check at pull."""
        clusters.load(self.settings, [], [archive])

    def members(self) -> list[Machine]:
        """See `Backend.members`."""
        return [fleet.as_set_up(self.settings, each.node, self._addition, self._pins) for each in self.cluster().nodes]

    def report(self) -> dict[str, Any]:
        """See `Backend.report`."""
        from containerd.inspection import of_machine
        from countersign.enforcement.report import ServiceState, document, of_unit

        found = clusters.find(self.settings)
        running = [each for each in found.nodes if each.running] if found else []
        services = [of_unit(each.node, unit) for each in running for unit in LOGS.values()]
        down = [each.name for each in found.nodes if not each.running] if found else []
        services += [ServiceState(name, "container", "not running", up=False) for name in down]
        machines = [fleet.as_set_up(self.settings, each.node, self._addition, self._pins) for each in running]
        looks = side_by_side(of_machine, machines)
        problems = {each.node.name: look for each, look in zip(machines, looks, strict=True)}
        kubeconfig = str(found.kubeconfig) if found else ""
        cluster = self.settings.kind.cluster
        more = {"cluster": cluster, "kubeconfig": kubeconfig}
        return document(PLACE, self.settings.state, services, machines, problems, "containerd", **more)

    def log(self, name: str) -> bytes:
        """Return a log of the first worker."""
        if name not in {*LOGS, "verdicts"}:
            raise UsageError(f"got {name!r}", where="--name", expected=", ".join((*LOGS, "verdicts")))
        machine = self.runtime()
        if name == "verdicts":
            return machine.node.run(["tail", "-n", "10000", machine.layout.verdicts]).stdout
        return machine.node.run(["journalctl", f"--unit={LOGS[name]}", "--no-pager", "--lines=10000"]).stdout

    def clean(self, *, plan: bool) -> list[StepResult]:
        """Delete the cluster that set-up made, with its registries; keys and the node image stay."""
        return run_steps([ClusterRemoved(self.settings, self._addition, self._remove)], plan=plan)

    @property
    def _pins(self) -> Path:
        return self._home / "pins.json"

    def cluster(self) -> Cluster:
        """Return the cluster. Raises InfrastructureError when there is none."""
        return clusters.require(self.settings)

    def docker(self) -> DockerClient:
        """Return a client of its Docker Engine."""
        return engine.docker_client(self.settings)

    def registry(self) -> Registry:
        """Return a client of the demo's registries, as this machine reaches them."""
        return self._addition.client()

    def _fleet(self, nodes: Sequence[clusters.KindNode]) -> list[Machine]:
        found = fleet.gather(self.settings, [each.node for each in nodes], self._addition, self._pins)
        return list(found.machines.values())

    def machines(self) -> list[Machine]:
        """Return every node of the cluster."""
        return self._fleet(self.cluster().nodes)

    def _remove(self) -> None:
        """Remove the cluster, its registries, and what is kept of them on this machine."""
        for step in self._addition.released():
            step.apply()
        clusters.delete(self.settings)
        for path in (self._pins, record.beside(self._pins)):
            path.unlink(missing_ok=True)
        if recorded_place(self.settings.state) == PLACE:
            record_place(self.settings.state, "")


@dataclass(frozen=True)
class NotYet:
    """A step of a plan that can be told only once there is a cluster."""

    name: str

    def needed(self) -> bool:
        """Raise NotThereYet."""
        raise NotThereYet("there is no cluster yet")

    def apply(self) -> None:
        """Raise NotThereYet."""
        self.needed()


@dataclass(frozen=True)
class PinsTaken:
    """The images that the cluster itself needs are known by digest; taken once, before enforcement."""

    cluster: Cluster
    path: Path
    sandboxes: tuple[str, ...] = field(repr=False)
    name: str = "images that the cluster needs, pinned by digest"

    def needed(self) -> bool:
        """Return whether they were never taken; they are never taken again by themselves."""
        return not self.path.is_file()

    def apply(self) -> None:
        """Take them from the nodes, keep them, and show them."""
        from countersign.console import output

        taken = pins.take([each.node for each in self.cluster.nodes], self.cluster.kubeconfig)
        found = sorted({*taken, *self.sandboxes})
        HOST.put((json.dumps(found, indent=2) + "\n").encode(), str(self.path))
        for pin in found:
            output.say(f"  pinned {pin}")


@dataclass(frozen=True)
class Untainted:
    """Users' pods may run on every worker."""

    cluster: Cluster
    name: str = "workers take pods"

    def needed(self) -> bool:
        """Return whether a node still has the taint with which it joined."""
        asked = [*ADMIN, "get", "nodes", "-o", "jsonpath={.items[*].spec.taints[*].key}"]
        return TAINT in self.cluster.nodes[0].node.run(asked).text.split()

    def apply(self) -> None:
        """Take it away."""
        taint = [*ADMIN, "taint", "nodes", "--all", f"{TAINT}-"]
        self.cluster.nodes[0].node.run(taint, check=False)
        if self.needed():
            self.cluster.nodes[0].node.run(taint)


@dataclass(frozen=True)
class ClusterRemoved:
    """There is no cluster of ours."""

    settings: Settings
    addition: Addition = field(repr=False)
    remove: Any = field(repr=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"cluster {self.settings.kind.cluster} and its registries are gone"

    def needed(self) -> bool:
        """Return whether there is one, or anything is kept of one."""
        return clusters.find(self.settings) is not None or any(step.needed() for step in self.addition.released())

    def apply(self) -> None:
        """Remove it."""
        self.remove()
