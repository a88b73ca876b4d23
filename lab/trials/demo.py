"""The demo on a runtime that is set up: push it, start it, and ask it over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from countersign.cri.errors import CriError
from countersign.enforcement.several import Places
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from countersign.runtimes.place import Place
from lab.demo.registries import FALLBACK, REFERRERS
from signing import commands as signing

if TYPE_CHECKING:
    from lab.trials.cri_place import CriPlace

DEMO = "demo/app"
TAG = "v1"
GREETING = "countersign demo"
URL = "http://127.0.0.1:8080/"


def registry(settings: Settings) -> Registry:
    """Return a client of the demo's registries, as the node reaches them."""
    from countersign.oci.access import registry as reach

    return reach(settings)


def require_up(place: Place) -> None:
    """Refuse a place that trials cannot go to.

    Raises:
        InfrastructureError: not everything runs there.
        UsageError: set-up gave it nothing of the demo, which every trial needs.
    """
    place.require_up()
    node = place.settings.node
    if REFERRERS not in place.addition.names:
        raise UsageError("was set up without the demo", where=node, do=f"run ./inv lab.setup --on {node}")


def sign_demo(context: Context, places: Places[Place], key: str) -> None:
    """Push the demo image to both registries of every place and sign it there; a second time adds nothing."""
    for place in places.each:
        require_up(place)
        context.config["node"], context.config["room"] = place.settings.node, place.adapter.room
        signing.sign(context, image=[str(image) for image in push_demo(place.settings)], key=key)


def demo_images() -> list[Reference]:
    """Return the demo's references, one in each registry."""
    from countersign.oci.reference import parse

    return [parse(f"{host}/{DEMO}:{TAG}") for host in (REFERRERS, FALLBACK)]


def push_demo(settings: Settings) -> list[Reference]:
    """Push the demo image to both registries, and return its references."""
    from countersign.oci.layout import push
    from countersign.tools.images import demo_layout

    client = registry(settings)
    for image in demo_images():
        push(client, image.name, demo_layout(settings), TAG)
    return demo_images()


def start_demo(place: CriPlace) -> list[str]:
    """Pull and start the signed demo from both registries under the user's policy, and ask it over HTTP.

    Returns the references that ran and answered.

    Raises:
        VerdictError: the runtime refused it.
        InfrastructureError: it answered something else.
    """
    with place:
        return [_start_one(place, str(image)) for image in demo_images()]


def _start_one(place: CriPlace, reference: str) -> str:
    try:
        place.pull(reference)
        container = place.create(place.image_id(reference), reference, command=("/demo",))
        place.start(container)
    except CriError as error:
        raise VerdictError(error.message, where=reference, do=f"sign it: ./inv {place.runtime}.sign") from error
    try:
        answer = place.get(container, URL).strip()
    finally:
        place.remove(container)
    if answer != GREETING:
        raise InfrastructureError(f"answered {answer!r}", where=reference, expected=repr(GREETING))
    return reference
