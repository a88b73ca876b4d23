"""The images that a node itself needs, by digest: its sandbox image, and what its system's pods run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.oci.reference import parse

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.cri.model import Image

NAMESPACE = "kube-system"
PULL_WITHIN = 60.0


def sandbox(client: Client, named: str) -> str:
    """Return the sandbox image by digest, or an empty text when the node has none and none can be pulled.

    Args:
        client: of the runtime, before enforcement.
        named: ``pause_image`` in effect.
    """
    if "@sha256:" in named:
        return named
    found = client.image_status(named)
    if found is None:
        try:
            client.pull(named, timeout=PULL_WITHIN)
        except CriError:
            return ""
        found = client.image_status(named)
    return by_digest(named, found) if found else ""


def taken(client: Client) -> tuple[list[str], list[str]]:
    """Return what the pods of kube-system run: by digest, and the names by tag under which kubelets pull it.

    Raises:
        InfrastructureError: a system's pod runs an image that has no name with a digest.
    """
    pins, tags = set(), set()
    for written, resolved in client.running_images(NAMESPACE):
        found = client.image_status(resolved) or client.image_status(written)
        if found is None:
            raise InfrastructureError("runs in kube-system, and the node has it under no name", where=written)
        pins.update(_names(found.digests))
        tags.update(_names(found.tags))
    return sorted(pins), sorted(tags)


def by_digest(named: str, image: Image) -> str:
    """Return the name with a digest that has the repository of ``named``.

    Raises:
        InfrastructureError: there is none.
    """
    repository = parse(named).name
    for each in image.digests:
        if each.startswith(f"{repository}@sha256:"):
            return each
    raise InfrastructureError("the node knows no digest of it", where=named, do="pull it again")


def _names(names: Iterable[str]) -> list[str]:
    return [name for name in names if "/" in name]
