"""A Kind cluster of ours: made by the kind program, looked at through the Docker Engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.console.places import KindSettings
from countersign.console.steps import NotThereYet
from countersign.nodes.docker import DockerNode
from countersign.nodes.host import HOST
from countersign.nodes.template import render
from kind import engine, node_image

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

CONFIG = Path(__file__).with_name("cluster.yaml.j2")
PUBLIC = "kindest/node:latest"
LABEL = "io.x-k8s.kind.cluster"
ROLE = "io.x-k8s.kind.role"
NETWORK = "kind"
PREINSTALL = "preinstall"
"""The folder below `folder` that nodes mount."""
FORMERLY = "birth"
"""Its name before; nodes of an older cluster still mount it."""
TAINT = "countersign/unenforced"
"""Workers have it until enforcement is proven on them, so no pod of the user's runs there before."""
READY = "180s"
CREATE_TIMEOUT = 900
DELETE_TIMEOUT = 300
DEFAULT_IMAGE = re.compile(rb"kindest/node:v[0-9.]+@sha256:[0-9a-f]{64}")
CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")


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


@dataclass(frozen=True)
class Mount:
    """A folder of this machine that every node has from its start, to read only.

    Attributes:
        host: the folder.
        node: where nodes have it.
    """

    host: str
    node: str


class Preinstall(Protocol):
    """What nodes are given before they start for the first time."""

    def prepare(self, client: DockerClient, image: str) -> Sequence[Mount]:
        """Make it ready for nodes of an image that the engine has."""

    def confirm(self, nodes: Sequence[KindNode]) -> None:
        """Raise InfrastructureError when a node that was just made did not take it."""


@dataclass(frozen=True)
class Exists:
    """The step that makes the cluster; a failed try leaves nothing behind unless ``keep``."""

    settings: Settings
    keep: bool = False
    preinstall: Preinstall | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What users read."""
        workers = self.settings.kind.workers
        return f"cluster {self.settings.kind.cluster}: a control plane and {workers} worker{'s' * (workers != 1)}"

    def needed(self) -> bool:
        """Return whether there is none.

        Raises:
            UsageError: there is one with another number of workers, or that is not ours.
        """
        found = find(self.settings)
        if found is None:
            return True
        workers = sum(each.role == "worker" for each in found.nodes)
        if workers != self.settings.kind.workers:
            raise UsageError(
                f"the cluster has {workers} workers",
                where="kind.workers",
                expected=str(self.settings.kind.workers),
                do="kind cannot change that: delete it first (./inv kind.delete)",
            )
        return False

    def apply(self) -> None:
        """Make it."""
        _create(self.settings, self.preinstall, keep=self.keep)


def _create(settings: Settings, preinstall: Preinstall | None, *, keep: bool) -> None:
    client = engine.docker_client(settings)
    image, etcd_tag = settings.kind.image, ""
    if not image and not _can_pull(client):
        image, etcd_tag = node_image.build(settings, client), node_image.ETCD_TAG
    home = folder(settings)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if preinstall:
        image = image or _default_image(settings)
        _have(client, image)
    config = render(
        CONFIG,
        name=settings.kind.cluster,
        workers=settings.kind.workers,
        cgroup_v1=not CGROUP_V2.exists(),
        sys_resource=engine.has_sys_resource(),
        etcd_tag=etcd_tag,
        taint=TAINT,
        mounts=preinstall.prepare(client, image) if preinstall else (),
    )
    HOST.put(config, str(home / "cluster.yaml"))
    argv = ["create", "cluster", f"--config={home / 'cluster.yaml'}", f"--wait={READY}"]
    argv += [f"--kubeconfig={home / 'kubeconfig'}", *([f"--image={image}"] if image else [])]
    argv += ["--retain"] if keep else []
    _kind(settings, argv, CREATE_TIMEOUT)
    first = client.containers.list(filters={"label": [f"{LABEL}={settings.kind.cluster}", f"{ROLE}=control-plane"]})[0]
    HOST.put(json.dumps({"control-plane": first.id}).encode() + b"\n", str(home / "cluster.json"))
    if preinstall:
        preinstall.confirm(require(settings).nodes)


def _have(client: DockerClient, image: str) -> None:
    """Pull an image that the engine does not have. Raises InfrastructureError when it cannot be had."""
    from docker.errors import APIError, ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound:
        try:
            client.images.pull(image)
        except APIError as error:
            raise InfrastructureError(f"cannot be pulled ({error.explanation})", where=image) from None


def _default_image(settings: Settings) -> str:
    """Return the node image that this kind makes nodes of, by digest; its program is the only place that has it."""
    from countersign.tools.resolver import tool

    program = tool("kind", settings)
    found = DEFAULT_IMAGE.search(program.read_bytes())
    if not found:
        raise InfrastructureError("names no node image", where=str(program), do="name one: INVOKE_KIND_IMAGE")
    return found[0].decode()


def _can_pull(client: DockerClient) -> bool:
    """Return whether kind's own node image can be had here; asks its registry for no more than a manifest."""
    from docker.errors import APIError, NotFound

    try:
        client.api.inspect_distribution(PUBLIC)
    except NotFound:
        return True  # the registry answers, with another tag than kind's
    except APIError:
        return False
    return True


def delete(settings: Settings) -> bool:
    """Delete the cluster and return whether there was one.

    Raises:
        UsageError: the one of that name is not ours.
    """
    if find(settings) is None:
        return False
    home = folder(settings)
    name = settings.kind.cluster
    _kind(settings, ["delete", "cluster", f"--name={name}", f"--kubeconfig={home / 'kubeconfig'}"], DELETE_TIMEOUT)
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
        _kind(settings, ["load", "docker-image", f"--name={name}", *images], CREATE_TIMEOUT)
    for archive in archives:
        _kind(settings, ["load", "image-archive", f"--name={name}", str(archive)], CREATE_TIMEOUT)


def _kind(settings: Settings, argv: list[str], timeout: float) -> None:
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
