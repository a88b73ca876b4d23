"""The images that a cluster itself needs, by digest, as its nodes have them before enforcement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from containerd.runtime import NAMESPACE
from containerd.survey import targets
from countersign.console.errors import InfrastructureError
from countersign.nodes.api_server import connect
from countersign.nodes.each import side_by_side
from countersign.oci.reference import BadReference, parse

if TYPE_CHECKING:
    from countersign.nodes.node import Node

SYSTEM_NAMESPACES = ("kube-system", "local-path-storage")
PRELOADED = 'labels."io.cri-containerd.pinned"==pinned'
"""What came with the node: kubelets never collect such images as garbage."""


def take(nodes: Sequence[Node], kubeconfig: Path) -> list[str]:
    """Return ``repository@digest`` of what came with the nodes and of what the system's pods run, sorted.

    Args:
        nodes: of one cluster.
        kubeconfig: of an administrator.

    Raises:
        InfrastructureError: the API server does not answer, or no node has an image that a system pod runs.
    """
    preloaded = {pin for found in side_by_side(_preloaded, nodes) for pin in found}
    stores = side_by_side(targets, nodes)
    return sorted({*preloaded, *_of(system_images(kubeconfig), stores)})


def running(kubeconfig: Path) -> tuple[list[str], list[str]]:
    """Return what the system's pods of any cluster run, as its kubelets say.

    Args:
        kubeconfig: of somebody who may list the pods of the system's namespaces.

    Returns:
        ``repository@digest``, sorted; and the names of images that a kubelet knows by no digest of a registry, for they
        came to the node by hand.

    Raises:
        InfrastructureError: the API server does not answer.
    """
    api = connect(kubeconfig)
    pods = [pod for name in SYSTEM_NAMESPACES for pod in api.pods(name)]
    kinds = ("containerStatuses", "initContainerStatuses")
    states = [each for pod in pods for kind in kinds for each in pod.get("status", {}).get(kind) or ()]
    found = {each["image"]: str(each.get("imageID", "")).rpartition("://")[2] for each in states}
    known = {name: pin(image, image.partition("@")[2]) for name, image in found.items() if "@" in image}
    return sorted({each for each in known.values() if each}), sorted(name for name in found if not known.get(name))


def take_from(node: Node) -> list[str]:
    """Return ``repository@digest`` of what came with one machine and of what the system's pods run on it, sorted.

    Nobody has to be asked but the machine's own containerd, so a kubelet's API server may be anywhere, or nowhere.
    """
    found = _preloaded(node)
    store = targets(node)
    for name in SYSTEM_NAMESPACES:
        filters = f'labels."io.kubernetes.pod.namespace"=={name}'
        listed = node.run(["ctr", "--namespace", NAMESPACE, "containers", "ls", filters]).text.splitlines()[1:]
        running = {line.split()[1] for line in listed if len(line.split()) > 1}
        found |= set(filter(None, (pin(image, store[image]) for image in running & store.keys())))
    return sorted(found)


def _preloaded(node: Node) -> set[str]:
    return set(filter(None, (pin(*image) for image in targets(node, PRELOADED).items())))


def _of(names: Iterable[str], stores: Sequence[dict[str, str]]) -> Iterable[str]:
    for name in names:
        digests = {store[name] for store in stores if name in store}
        if not digests:
            raise InfrastructureError("a system pod runs it, and no node has it by that name", where=name)
        yield from filter(None, (pin(name, digest) for digest in digests))


def pin(name: str, digest: str) -> str:
    """Return the pin of an image record, or an empty text for a record that is not a name but an ID."""
    if name.startswith("sha256:"):
        return ""
    try:
        return f"{parse(name).name}@{digest}"
    except BadReference:
        return ""


def system_images(kubeconfig: Path) -> list[str]:
    """Return the images of all pods in the system's namespaces, named as the nodes' stores name them.

    Raises:
        InfrastructureError: the API server does not answer.
    """
    api = connect(kubeconfig)
    specs = [pod["spec"] for name in SYSTEM_NAMESPACES for pod in api.pods(name)]
    containers = [each for spec in specs for each in (*spec["containers"], *spec.get("initContainers", ()))]
    return sorted({str(parse(each["image"])) for each in containers})
