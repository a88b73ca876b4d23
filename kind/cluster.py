"""A Kind cluster of ours: made by the kind program, looked at through the Docker Engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.console.places import KindSettings
from countersign.console.steps import NotThereYet
from countersign.nodes.docker import DockerNode
from kind import engine

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "io.x-k8s.kind.cluster"
ROLE = "io.x-k8s.kind.role"
NETWORK = "kind"
PREINSTALL = "preinstall"
"""The folder below `folder` that nodes mount."""
FORMERLY = "birth"
"""Its name before; nodes of an older cluster still mount it."""
TAINT = "countersign/unenforced"
"""Workers have it until enforcement is proven on them, so no pod of the user's runs there before."""
CREATE_TIMEOUT = 900
DELETE_TIMEOUT = 300


@dataclass(frozen=True)
class KindNode:
    """One node of a cluster.

    Attributes:
        name: of the node and of its container.
        role: ``control-plane`` or ``worker``.
        running: whether the container runs.
        node: the way to it.
    """

    name: str
    role: str
    running: bool
    node: DockerNode = field(repr=False, compare=False)


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ours.

    Attributes:
        name: as kind knows it.
        kubeconfig: of its administrator; on this machine, 0600.
        nodes: control plane first, then by name.
    """

    name: str
    kubeconfig: Path
    nodes: tuple[KindNode, ...]

    @property
    def workers(self) -> tuple[KindNode, ...]:
        """The nodes where users' pods run."""
        return tuple(node for node in self.nodes if node.role == "worker") or self.nodes

    def require_running(self) -> None:
        """Raise InfrastructureError when the container of a node does not run."""
        for node in self.nodes:
            if not node.running:
                raise InfrastructureError("its container does not run", where=node.name, do=f"docker start {node.name}")


def network(settings: Settings) -> str:
    """Return the cluster's Docker network: kind's own, but for clusters beside the default one.

    The demo's registries have their names on it, so two clusters on one network would share them.
    """
    name = settings.kind.cluster
    return NETWORK if name == KindSettings().cluster else name


def folder(settings: Settings) -> Path:
    """Return where everything about the cluster is kept on this machine."""
    return settings.state.resolve() / "kind"


def find(settings: Settings) -> Cluster | None:
    """Return the cluster of the configured name, or None when there is none.

    Raises:
        MissingError: no Docker Engine answers.
        UsageError: there is one of that name which is not ours.
    """
    name = settings.kind.cluster
    client = engine.docker_client(settings)
    containers = client.containers.list(all=True, filters={"label": f"{LABEL}={name}"})
    if not containers:
        return None
    kept = _kept(settings)
    if not kept.get("control-plane") or kept["control-plane"] not in {container.id for container in containers}:
        raise UsageError(
            f"there is a cluster {name!r} that {folder(settings)} knows nothing of",
            where="kind.cluster",
            do="choose another name (INVOKE_KIND_CLUSTER), or delete it yourself",
        )
    nodes = sorted((_node(container, client) for container in containers), key=lambda node: (node.role, node.name))
    return Cluster(name, folder(settings) / "kubeconfig", tuple(nodes))


def require(settings: Settings) -> Cluster:
    """Return the cluster. Raises NotThereYet when there is none, and as `find` does."""
    found = find(settings)
    if found is None:
        raise NotThereYet(f"there is no cluster {settings.kind.cluster!r}", do="make it with ./inv kind.create")
    return found


def delete(settings: Settings) -> bool:
    """Delete the cluster and return whether there was one.

    Raises:
        UsageError: the one of that name is not ours.
    """
    if find(settings) is None:
        return False
    home = folder(settings)
    name = settings.kind.cluster
    run_kind(settings, ["delete", "cluster", f"--name={name}", f"--kubeconfig={home / 'kubeconfig'}"], DELETE_TIMEOUT)
    if network(settings) != NETWORK:
        for empty in engine.docker_client(settings).networks.list(names=[network(settings)]):
            empty.remove()
    for left in ("cluster.json", "kubeconfig", "cluster.yaml"):
        (home / left).unlink(missing_ok=True)
    for left in (PREINSTALL, FORMERLY):
        shutil.rmtree(home / left, ignore_errors=True)
    return True


def load(settings: Settings, images: list[str], archives: list[Path]) -> None:
    """Load images of the engine, or archives, into every node, past every check at pull."""
    name = require(settings).name
    if images:
        run_kind(settings, ["load", "docker-image", f"--name={name}", *images], CREATE_TIMEOUT)
    for archive in archives:
        run_kind(settings, ["load", "image-archive", f"--name={name}", str(archive)], CREATE_TIMEOUT)


def run_kind(settings: Settings, argv: list[str], timeout: float) -> None:
    """Run kind; all that it says goes to a log.

    Raises:
        InfrastructureError: it failed; its own reason is in the text.
    """
    from countersign.tools.resolver import tool

    log = folder(settings) / "kind.log"
    environment = {**os.environ, "DOCKER_HOST": engine.url(settings), "KIND_EXPERIMENTAL_PROVIDER": "docker"}
    environment["KIND_EXPERIMENTAL_DOCKER_NETWORK"] = network(settings)
    with log.open("wb") as file:
        try:
            ended = subprocess.run(
                [str(tool("kind", settings)), *argv],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"kind {argv[0]} did not end within {timeout:g} s", where=str(log)) from None
    if ended.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "")
        raise InfrastructureError(f"kind {argv[0]} failed: {reason}", where=str(log))


def _kept(settings: Settings) -> Mapping[str, Any]:
    kept = folder(settings) / "cluster.json"
    try:
        found: Mapping[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:  # cut off, by a full disk or a machine that went down
        do = "remove it; a cluster that is left is then deleted by kind itself"
        raise InfrastructureError("cannot be read", where=str(kept), expected="what kind.create wrote", do=do) from None
    return found


def _node(container: Container, client: DockerClient) -> KindNode:
    name = str(container.name)
    role = str(container.labels.get(ROLE, ""))
    return KindNode(name, role, container.status == "running", DockerNode(name, name, lambda: client))
