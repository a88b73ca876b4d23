"""One image of the matrix while it is being built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from countersign.keys.pair import PrivateKey
from countersign.oci.descriptor import Descriptor
from countersign.oci.layout import push
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from lab.trials.signers import Authorities
from signing import bundle as bundles
from signing import stored
from signing.sign import targets

TAG = "v1"

NewLayout = Callable[[str], Path]
"""Make a layout of the demo image with the given mark, and return its folder."""


@dataclass
class Image:
    """One image while it is being built.

    Attributes:
        registry: where it is pushed to.
        name: its repository with its registry.
        authorities: who issues certificates to signers.
        new_layout: makes further layouts, for images that consist of two.
        layout: the folder of the image that ``TAG`` names.
    """

    registry: Registry
    name: str
    keys: Mapping[str, PrivateKey]
    authorities: Authorities
    new_layout: NewLayout
    layout: Path
    root: Descriptor = field(init=False)
    parts: list[Descriptor] = field(init=False)

    def __post_init__(self) -> None:
        """Push the layout."""
        self.push(self.layout)

    def push(self, folder: Path) -> None:
        """Make ``TAG`` name the image in ``folder``; ``root`` and ``parts`` are its digests from then on."""
        self.layout = folder
        self.root = push(self.registry, self.name, folder, TAG)
        self.parts = targets(self.registry, parse(f"{self.name}:{TAG}"))

    def hang(self, part: Descriptor, bundle: bytes, kind: str = bundles.PREDICATE_TYPE) -> None:
        """Hang a bundle on a digest."""
        stored.add_bundle(self.registry, self.name, part, bundle, kind)

    @staticmethod
    def other(part: Descriptor) -> Descriptor:
        """Return what is not part of the image, and looks like a part of it."""
        return replace(part, digest="sha256:" + part.digest.removeprefix("sha256:")[::-1])
