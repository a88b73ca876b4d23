"""The scenarios of `lab.trials.pods` on a Kind cluster under enforcement."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from containerd.machine import Machine
from containerd.on_kind import OnKind
from containerd.runtime import import_archive
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.enforcement.node_units import CONTAINERD, GATE, KUBELET
from countersign.nodes.api_server import connect, wait_for
from countersign.oci.registry import Registry
from kind.cluster import Cluster
from lab.demo.images import push_signed
from lab.demo.keys import demo_key
from lab.demo.registries import REFERRERS
from lab.trials.pods.model import PodRow, load
from lab.trials.pods.run import PodsPlace, run, whole
from lab.trials.rows import Outcome, Series

if TYPE_CHECKING:
    from docker import DockerClient


UNITS = {"kubelet": KUBELET, "containerd": CONTAINERD, "gate": GATE}
REPOSITORY = f"{REFERRERS}/demo/pods"
TAG = "v1"


def series(place: OnKind) -> Series:
    """Return the scenarios as trials of a cluster."""
    pods = KindPods(place.settings, place.cluster(), place.workers(), place.docker, place.registry, place.load)
    command = "./inv containerd.test --on kind"

    def attempt(rows: Sequence[PodRow]) -> Generator[Outcome, None, None]:
        yield from run(pods.opened(), rows)

    return Series("pods", "containerd", pods.cluster.name, load(), attempt, command, at=pods.workers[0])


@dataclass(frozen=True)
class KindPods:
    """All that the scenarios need.

    Attributes:
        workers: its workers, as machines.
        docker: opens a client of the Docker Engine.
        registry: opens a client of the demo's registries.
        load: loads an image archive as ``kind load`` does.
    """

    settings: Settings
    cluster: Cluster
    workers: Sequence[Machine]
    docker: Callable[[], DockerClient] = field(repr=False)
    registry: Callable[[], Registry] = field(repr=False)
    load: Callable[[Path], None] = field(repr=False)

    def opened(self) -> PodsPlace:
        """Return the cluster with the scenarios' images. Raises InfrastructureError when it has one handler only."""
        machine = self.workers[0]
        if len(machine.handlers) < 2:  # noqa: PLR2004 - the default one and another
            raise InfrastructureError("has one runtime handler only", where=machine.node.name)
        return PodsPlace(
            name=self.cluster.name,
            api=connect(self.cluster.kubeconfig),
            worker=machine.node.name,
            node=machine.node,
            handler=machine.handlers[1],
            images=self._images(),
            restart=self._restart,
            registry_stopped=lambda: machine.addition.stopped(REFERRERS),
        )

    def _images(self) -> Mapping[tuple[str, bool], str]:
        """Push one image for each way and signature, sign those that are to be, and bring two ways' to the nodes."""
        from countersign.oci.build import variant
        from countersign.tools.images import demo_layout
        from lab.trials.lab import write_archive

        client = self.registry()
        key = demo_key(self.settings)
        found = {}
        layouts = {}
        for way in ("pulled", "imported", "loaded"):
            for signed in (True, False):
                name = f"{REPOSITORY}-{way}-{'signed' if signed else 'unsigned'}"
                folder = self.settings.state / "pods" / name.rpartition("/")[2]
                if not (folder / "index.json").is_file():
                    variant(demo_layout(self.settings), folder.name, folder)
                push_signed(client, f"{name}:{TAG}", folder, key if signed else None)
                found[way, signed] = f"{name}:{TAG}"
                layouts[way, signed] = (f"{name}:{TAG}", folder)
        for way, bring in (("imported", self._import), ("loaded", self.load)):
            archive = self.settings.state / "pods" / f"{way}.tar"
            write_archive(archive, dict(layouts[way, signed] for signed in (True, False)))
            bring(archive)
        return found

    def _import(self, archive: Path) -> None:
        for machine in self.workers:
            import_archive(machine, archive)

    def _restart(self, what: str) -> None:
        machine = self.workers[0]
        if what in UNITS:
            machine.node.run(["systemctl", "restart", UNITS[what]], timeout=120)
            return
        name = machine.node.name if what == "node" else self.cluster.nodes[0].name
        self.docker().containers.get(name).restart(timeout=30)
        api = connect(self.cluster.kubeconfig)
        wait_for(lambda: bool(api.nodes()), "the API server did not answer again", 120)
        whole(api)
