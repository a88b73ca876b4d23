"""The step that makes a Kind cluster: its configuration, its nodes' image, what these have before their first start."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.host import HOST
from countersign.nodes.template import render
from kind import engine, node_image
from kind.cluster import CREATE_TIMEOUT, LABEL, ROLE, TAINT, KindNode, find, folder, require, run_kind

if TYPE_CHECKING:
    from docker import DockerClient

CONFIG = Path(__file__).with_name("cluster.yaml.j2")
PUBLIC = "kindest/node:latest"
READY = "180s"
DEFAULT_IMAGE = re.compile(rb"kindest/node:v[0-9.]+@sha256:[0-9a-f]{64}")
CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")


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
    run_kind(settings, argv, CREATE_TIMEOUT)
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
