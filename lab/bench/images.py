"""The images that are started: one, or another one each time, as the variants need them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.keys.pair import PrivateKey
from countersign.oci.build import variant
from countersign.oci.descriptor import Descriptor
from countersign.oci.layout import push
from countersign.oci.registry import Registry
from countersign.tools.images import demo_layout
from lab.bench.model import Kind
from lab.bench.testbed import Testbed
from lab.demo.images import push_signed
from lab.demo.keys import demo_key
from lab.demo.registries import REFERRERS

if TYPE_CHECKING:
    from countersign.cri.client import Client

NAMESPACE = f"{REFERRERS}/bench"
TAG = "v1"
KNOWN_WITHIN = 5.0


@dataclass(frozen=True)
class Image:
    """An image on the node: the name that users write, and its ID."""

    reference: str
    id: str


@dataclass(frozen=True)
class Images:
    """What the run starts.

    Attributes:
        same: the one image of the warm variants.
        others: for each round, the image of a cold variant.
        burst: what is started many times at once; nothing is known of it.
        unsigned: what must be refused.
    """

    same: Image
    others: dict[Kind, list[Image]]
    burst: Image
    unsigned: Image

    def of(self, kind: Kind, turn: int) -> Image:
        """Return what a variant starts in a round."""
        return self.same if kind == "same" else self.others[kind][turn]


def prepare(testbed: Testbed, rounds: int) -> Images:
    """Push and sign every image, and bring it to the node as its variant needs it.

    What is pulled over CRI leaves its evidence on the node, for the pull-time verifier looks at
    it; what comes by ctr leaves nothing.
    """
    key = demo_key(testbed.settings)
    registry, layout = testbed.instance.addition.client(), demo_layout(testbed.settings)
    with testbed.instance.client() as client:

        def make(mark: str, bring: Callable[[str], object], *, signed: bool = True) -> Image:
            reference = _push(registry, layout, mark, key if signed else None)
            bring(reference)
            return Image(reference, _known(client, reference))

        return Images(
            same=make("same", client.pull),
            others={
                "stored": [make(f"stored-{turn}", client.pull) for turn in range(rounds)],
                "remote": [make(f"remote-{turn}", testbed.instance.fetch) for turn in range(rounds)],
            },
            burst=make("burst", testbed.instance.fetch),
            unsigned=make("unsigned", testbed.instance.fetch, signed=False),
        )


def push_marked(registry: Registry, name: str, layout: Path, mark: str) -> Descriptor:
    """Push the image of a layout as ``name``:``TAG``, under digests that are its own by the mark."""
    with tempfile.TemporaryDirectory(prefix="countersign-bench-") as folder:
        return push(registry, name, variant(layout, mark, Path(folder)), TAG)


def _push(registry: Registry, layout: Path, mark: str, key: PrivateKey | None) -> str:
    """Push an image, sign it as ``signing.sign`` does (index and every manifest, in both formats), return its name.

    Each has a repository of its own: the demo's registry looks through a whole repository for referrers.
    """
    reference = f"{NAMESPACE}/{mark}:{TAG}"
    with tempfile.TemporaryDirectory(prefix="countersign-bench-") as folder:
        push_signed(registry, reference, variant(layout, mark, Path(folder)), key)
    return reference


def _known(client: Client, reference: str) -> str:
    """Return the image's ID; the CRI plugin learns by an event of what came in past it."""
    deadline = time.monotonic() + KNOWN_WITHIN
    while not (found := client.image_status(reference)):
        if time.monotonic() >= deadline:
            raise InfrastructureError(f"did not become known within {KNOWN_WITHIN:g} s", where=reference)
        time.sleep(0.01)
    return found.id
