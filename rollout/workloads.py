"""What a cluster's workloads run: each image of each container, as its pods say it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.oci.digest import valid
from countersign.oci.reference import BadReference, parse

if TYPE_CHECKING:
    from countersign.nodes.api_server import ApiServer

MOST = 20_000
"""Pods that are looked at."""
_GROUPS = (
    ("containers", "containerStatuses", "container"),
    ("initContainers", "initContainerStatuses", "init"),
    ("ephemeralContainers", "ephemeralContainerStatuses", "ephemeral"),
)
_ENDED = {"Succeeded", "Failed"}
_HASH = re.compile(r"[a-z0-9]{1,16}")


@dataclass(frozen=True, order=True)
class Use:
    """One image that a workload runs.

    Attributes:
        namespace: the workload's.
        workload: ``Kind/name``.
        container: its name in the pod; of an image volume, the volume's.
        role: ``container``, ``init``, ``ephemeral`` or ``volume``.
        image: as the pod writes it.
        judged: the written repository by the digest that runs; as written where the node tells no digest.
    """

    namespace: str
    workload: str
    container: str
    role: str
    image: str
    judged: str


def uses(api: ApiServer, namespace: str = "") -> tuple[dict[Use, int], bool]:
    """Return what runs, with the number of pods of each, and whether there is more than was looked at.

    Args:
        api: the cluster's.
        namespace: only this one; all where it is empty.

    Raises:
        InfrastructureError: the API server does not answer, or refuses it.
    """
    path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    pods, more = api.paged(path, MOST)
    found: dict[Use, int] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") in _ENDED:
            continue
        for use in dict.fromkeys(_of(pod)):
            found[use] = found.get(use, 0) + 1
    return found, more


def _of(pod: Mapping[str, Any]) -> Iterator[Use]:
    spec, status = pod.get("spec", {}), pod.get("status", {})
    namespace, workload = str(pod["metadata"].get("namespace", "")), _workload(pod["metadata"])
    for group, statuses, role in _GROUPS:
        ids = {str(each.get("name")): str(each.get("imageID", "")) for each in status.get(statuses) or ()}
        for each in spec.get(group) or ():
            name, image = str(each.get("name", "")), str(each.get("image", ""))
            yield Use(namespace, workload, name, role, image, judged(image, ids.get(name, "")))
    for volume in spec.get("volumes") or ():
        reference = (volume.get("image") or {}).get("reference")
        if reference:
            yield Use(namespace, workload, str(volume.get("name", "")), "volume", str(reference), str(reference))


def judged(image: str, image_id: str) -> str:
    """Return what is to be judged: the written repository by the digest that the node says runs."""
    digest = image_id.rpartition("@")[2] if "@" in image_id else ""
    try:
        written = parse(image)
    except BadReference:
        return image
    return str(written.at(digest)) if valid(digest) else str(written)


def _workload(metadata: Mapping[str, Any]) -> str:
    """Return what people call it: a ReplicaSet of a Deployment is the Deployment, a pod without an owner itself."""
    owner = _controller(metadata.get("ownerReferences") or ())
    kind, name = str(owner.get("kind", "")), str(owner.get("name", ""))
    if not name or kind == "Node":  # static pods belong to their node
        return f"Pod/{metadata.get('name', '')}"
    hashed = str((metadata.get("labels") or {}).get("pod-template-hash", ""))
    if kind == "ReplicaSet" and _HASH.fullmatch(hashed) and name.endswith(f"-{hashed}"):
        return f"Deployment/{name.removesuffix(f'-{hashed}')}"
    return f"{kind}/{name}"


def _controller(owners: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((each for each in owners if each.get("controller")), {})
