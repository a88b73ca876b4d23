"""The other half of the proof: not only is the canary refused, an image that the policy allows gets through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.cri.errors import CriError
from countersign.enforcement import access
from countersign.enforcement.problem import NotEnforced, Problem

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.cri.model import Auth, Image
    from countersign.enforcement.runtime import Runtime
    from countersign.policy.model import Policy

TRIES = 3
WITHIN = 60.0
NOT_PROVEN = "allow not proven"


def show(runtime: Runtime, policy: Path, named: str = "") -> None:
    """Try it and tell users what came of it, and which registries of the policy the node may not be let in to.

    Args:
        runtime: under enforcement.
        policy: the user's policy.yaml.
        named: an image that the policy has to allow; without one, what the runtime has already is tried.

    Raises:
        NotEnforced: the named image was refused.
    """
    from countersign.console import output
    from countersign.policy.load import load

    where = runtime.node.name
    with runtime.client() as client:
        images = [named] if named else candidates(client.list_images(), load(policy))
        proven, why = prove(client, images, runtime.credentials)
    if proven:
        output.done(f"{where}: {proven} is allowed at pull, from its registry")
    elif named:
        raise NotEnforced([Problem(f"pull of {named}", f"refused with: {why}", "allowed")], f"{NOT_PROVEN} on {where}")
    else:
        output.warn(f"{where}: {NOT_PROVEN}: {why}")
    for line in access.of_runtime(runtime):
        output.warn(f"{where}: {line}")


def prove(client: Client, images: Sequence[str], credentials: Callable[[str], Auth | None]) -> tuple[str, str]:
    """Pull images until one is allowed, and return it; or an empty text, and why there was none.

    Args:
        client: of the runtime.
        images: by digest, so that no name of the runtime's is moved, or as the user named one.
        credentials: what a kubelet would pass on for an image.
    """
    why = "no image of a scope that asks for signatures is there; name one as registry.proof_image"
    for image in images[:TRIES]:
        try:
            client.pull(image, credentials(image), timeout=WITHIN)
        except CriError as error:  # noqa: PERF203 - the next image may get through
            why = f"{image}: {error.message}"
        else:
            return image, ""
    return "", why


def candidates(images: Sequence[Image], policy: Policy) -> list[str]:
    """Return the runtime's images, by digest, whose scope asks for signatures."""
    from countersign.policy.match import match

    names = (name for image in images for name in image.digests)
    return [name for name in names if match(policy, name.partition("@")[0])[1].roots]
