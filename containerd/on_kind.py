"""Containerd in the nodes of a Kind cluster, as a place for the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd import pins
from containerd.machine import Machine
from containerd.preinstalled import Preinstalled
from countersign.console import output
from countersign.console.config import Settings, record_place, recorded_place
from countersign.console.steps import NotThereYet, Stage, Step
from countersign.enforcement import record
from countersign.enforcement.report import ServiceState
from countersign.nodes.each import on_each, side_by_side
from countersign.runtimes.pins import PinsTaken, read
from countersign.runtimes.place import Place
from countersign.runtimes.systemd import Taken
from countersign.runtimes.work import TOOLS, Work, steps, work
from kind import cluster as clusters
from kind import engine
from kind.cluster import TAINT, Cluster
from kind.creation import Exists

if TYPE_CHECKING:
    from docker import DockerClient

    from countersign.enforcement.additions import Lab

PLACE = "kind"
ADMIN = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]
PINNED = "images that the cluster needs, pinned by digest"
AFTERWARDS = ("the demo's registries", PINNED, "gate, hook, verifier and policy on every node")


class OnKind(Place):
    """See `countersign.runtimes.place.Place`."""

    claim = f"{Place.claim}, on every node"

    def __init__(self, settings: Settings, lab: Lab) -> None:
        super().__init__(settings, lab.for_cluster(settings), Machine)
        self._pins: Path = clusters.folder(settings) / "pins.json"

    def look(self) -> None:
        """See `Place.look`; nodes can be asked once there is a cluster."""

    def exists(self) -> bool:
        """See `Place.exists`."""
        return clusters.find(self.settings) is not None

    def stages(self) -> Sequence[Stage]:
        """See `Place.stages`: make the cluster if there is none, and bring every node of it under enforcement."""
        return [
            Stage(lambda: [*self.addition.prepared(), self._cluster()]),
            Stage(self._registries, AFTERWARDS),
            Stage(lambda: [PinsTaken(self._pins, self._take, PINNED)]),
            Stage(self._enforcement, AFTERWARDS[-1:]),
        ]

    def _cluster(self) -> Step:
        wanted = self.settings.kind.preinstalled
        preinstall = Preinstalled(self.settings, self.addition, self._pins) if wanted else None
        return Exists(self.settings, self.keep, preinstall)

    def _registries(self) -> Sequence[Step]:
        if clusters.find(self.settings) is None:
            raise NotThereYet("there is no cluster yet")
        return self.addition.running()

    def _take(self) -> Taken:
        cluster = self.cluster()
        taken = pins.take([each.node for each in cluster.nodes], cluster.kubeconfig)
        return Taken(sorted({*taken, *(machine.sandbox for machine in self.inspected)}))

    def _enforcement(self) -> Sequence[Step]:
        if not self._pins.is_file():
            raise NotThereYet("there are no pins yet")
        for machine in self.inspected:
            for line in machine.warnings():
                output.warn(f"{machine.node.name}: {line}")
        return on_each({given.machine.node.name: steps(given) for given in self.works})

    def give(self) -> Sequence[Work[Machine]]:
        """See `Place.give`."""
        from countersign.tools.resolver import install

        programs, found = install(TOOLS, self.settings), read(self._pins) or Taken(())
        coming = self.addition.keys_to_come()
        return [work(self.settings, each, found.pins, programs, keys_to_come=coming) for each in self.inspected]

    def inspect(self) -> list[Machine]:
        """Return every node of the cluster with what it is like."""
        return self._inspected(self.cluster().nodes)

    @cached_property
    def inspected(self) -> list[Machine]:
        """Every node with what it is like, asked once a set-up."""
        return self.inspect()

    def afterwards(self) -> Sequence[Step]:
        """See `Place.afterwards`: no pod of the user's runs on a node that has not proven itself."""
        return [Untainted(self.cluster())]

    def members(self) -> list[Machine]:
        """See `Place.members`."""
        return [self._member(each) for each in self.cluster().nodes]

    def _member(self, node: clusters.KindNode) -> Machine:
        return Machine.as_set_up(self.settings, node.node, self.addition, self._pins)

    def _inspected(self, nodes: Sequence[clusters.KindNode]) -> list[Machine]:
        return side_by_side(lambda each: self._member(each).inspected(), nodes)

    def runtime(self) -> Machine:
        """See `Place.runtime`; the first worker."""
        return self._inspected(self.cluster().workers[:1])[0]

    def workers(self) -> list[Machine]:
        """Return the workers of the cluster, looked at."""
        return self._inspected(self.cluster().workers)

    def load(self, archive: Path) -> None:
        """Load the images of an archive into every node, past every check at pull."""
        clusters.load(self.settings, [], [archive])

    def require_up(self) -> None:
        """See `Place.require_up`."""
        self.cluster().require_running()
        super().require_up()

    def reported(self) -> Sequence[Machine]:
        """See `Place.reported`: the nodes whose containers run."""
        found = clusters.find(self.settings)
        return [self._member(each) for each in found.nodes if each.running] if found else []

    def services(self, machines: Sequence[Any]) -> list[ServiceState]:
        """See `Place.services`; a container that is down is one."""
        found = clusters.find(self.settings)
        down = [each.name for each in found.nodes if not each.running] if found else []
        gone = [ServiceState(name, "container", "not running", up=False) for name in down]
        return [*super().services(machines), *gone]

    def more(self) -> dict[str, Any]:
        """See `Place.more`."""
        found = clusters.find(self.settings)
        return {"cluster": self.settings.kind.cluster, "kubeconfig": str(found.kubeconfig) if found else ""}

    def log(self, name: str) -> bytes:
        """See `Place.log`; of the first worker."""
        return self._member(self.cluster().workers[0]).keeper.log(name)

    def cluster(self) -> Cluster:
        """Return the cluster. Raises InfrastructureError when there is none."""
        return clusters.require(self.settings)

    def docker(self) -> DockerClient:
        """Return a client of its Docker Engine."""
        return engine.docker_client(self.settings)

    def teardown(self) -> Sequence[Step]:
        """See `Place.teardown`: delete the cluster with its registries; keys and the node image stay."""
        return [ClusterRemoved(self)]

    def undo(self, _error: BaseException) -> None:
        """See `Place.undo`."""
        self.remove()

    def remove(self) -> None:
        """Remove the cluster, its registries, and what is kept of them on this machine."""
        for step in self.addition.released():
            step.apply()
        clusters.delete(self.settings)
        for path in (self._pins, record.beside(self._pins)):
            path.unlink(missing_ok=True)
        if recorded_place(self.settings.state) == PLACE:
            record_place(self.settings.state, "")


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

    place: OnKind = field(repr=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"cluster {self.place.settings.kind.cluster} and its registries are removed"

    def needed(self) -> bool:
        """Return whether there is one, or anything is kept of one."""
        return self.place.exists() or any(step.needed() for step in self.place.addition.released())

    def apply(self) -> None:
        """Remove it."""
        self.place.remove()
