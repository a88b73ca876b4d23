"""Images that set-up puts into the demo's registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from countersign.keys.pair import PrivateKey
from countersign.oci import layout as layouts
from countersign.oci.reference import parse
from countersign.oci.registry import Registry


def digest(layout: Path) -> str:
    """Return the digest under which the image of an OCI layout is pulled."""
    return layouts.root(layout).digest


def push_signed(registry: Registry, reference: str, layout: Path, key: PrivateKey | None) -> None:
    """Push the image of a layout under a reference with a tag; sign index and platforms as ``signing.sign`` does."""
    from signing.sign import sign, targets

    image = parse(reference)
    layouts.push(registry, image.name, layout, str(image.tag))
    for target in targets(registry, image) if key else ():
        sign(registry, image.name, target, key)


@dataclass(frozen=True)
class Pushed:
    """An image of an OCI layout lies in a registry under a tag.

    Attributes:
        registry: opens the registry client; called late, for its hosts.toml files come with an earlier step.
        repository: with its registry, such as ``registry.example/app``.
        running: whether the registry runs; while it does not, nothing can be asked.
    """

    registry: Callable[[], Registry]
    repository: str
    tag: str
    layout: Path
    running: Callable[[], bool]

    @property
    def name(self) -> str:
        """What users read."""
        return f"image {self.repository}:{self.tag}"

    def needed(self) -> bool:
        """Return whether the registry has nothing, or something else, under the tag."""
        if not self.running():
            return True
        found = self.registry().manifest_or_none(self.repository, self.tag)
        return found is None or found[1].digest != digest(self.layout)

    def apply(self) -> None:
        """Push it."""
        layouts.push(self.registry(), self.repository, self.layout, self.tag)
