"""How each image of the matrix comes to be. A function is named like its entry in matrix.yaml.

Those whose scope asks for a certificate are in ``certificates``.

Every function gets a freshly pushed image and hangs on it what the entry says. Private keys are
made anew for each build and never written; images carry a build mark, so no two builds share a digest.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from countersign.keys.pair import PrivateKey
from countersign.oci.descriptor import Descriptor
from countersign.oci.layout import push
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from lab.trials.signers import Authorities
from signing import attachment as simple
from signing import bundle as bundles
from signing import stored
from signing.formats import FORMATS, Format
from signing.sign import sign, targets

TAG = "v1"
SPDX = "https://spdx.dev/Document"

NewLayout = Callable[[str], Path]
"""Make a layout of the demo image with the given mark, and return its folder."""


@dataclass
class Image:
    """One image while it is being built.

    Attributes:
        registry: where it is pushed to.
        name: its repository with its registry.
        keys: the signers, by name.
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

    def sign(self, key: str, *formats: Format, only: Sequence[Descriptor] | None = None) -> None:
        """Sign the index and every platform manifest, or those in ``only``."""
        for part in self.parts if only is None else only:
            sign(self.registry, self.name, part, self.keys[key], formats or FORMATS)

    @staticmethod
    def other(part: Descriptor) -> str:
        """Return a digest that is not part of the image."""
        return "sha256:" + part.digest.removeprefix("sha256:")[::-1]


def attachment(image: Image) -> None:
    """Signed as attachment only."""
    image.sign("team", "attachment")


def bundle(image: Image) -> None:
    """Signed as bundle only."""
    image.sign("team", "bundle")


def both(image: Image) -> None:
    """Signed in both formats."""
    image.sign("team")


def good_and_bad(image: Image) -> None:
    """A stranger's signatures first, then the team's."""
    image.sign("stranger")
    image.sign("team")


def unsigned(image: Image) -> None:
    """Nothing hangs on it."""


def wrong_key_attachment(image: Image) -> None:
    """Attachment by a stranger."""
    image.sign("stranger", "attachment")


def wrong_key_bundle(image: Image) -> None:
    """Bundle by a stranger."""
    image.sign("stranger", "bundle")


def altered_attachment(image: Image) -> None:
    """The team's signature beside a payload that it did not sign."""
    for part in image.parts:
        payload = simple.payload(image.name, part.digest)
        signed = simple.sign(image.keys["team"], payload.replace(b"null", b'{"creator":"mallory"}'))
        altered = simple.Attachment(payload, signed.signature)
        stored.add_attachment(image.registry, image.name, part.digest, altered)


def altered_bundle(image: Image) -> None:
    """The team's signature and hint around a statement that it did not sign."""
    key = image.keys["team"]
    for part in image.parts:
        signed = json.loads(bundles.sign(key, bundles.statement(part.digest, predicate={"creator": "mallory"})))
        signature = base64.b64decode(signed["dsseEnvelope"]["signatures"][0]["sig"])
        altered = bundles.wrap(bundles.statement(part.digest), signature, key.public.hint)
        stored.add_bundle(image.registry, image.name, part, altered)


def other_attachment(image: Image) -> None:
    """The team's attachment for another digest."""
    for part in image.parts:
        other = simple.sign(image.keys["team"], simple.payload(image.name, image.other(part)))
        stored.add_attachment(image.registry, image.name, part.digest, other)


def other_bundle(image: Image) -> None:
    """The team's bundle for another digest."""
    for part in image.parts:
        other = bundles.sign(image.keys["team"], bundles.statement(image.other(part)))
        stored.add_bundle(image.registry, image.name, part, other)


def copied_attachment(image: Image) -> None:
    """Image and attachments lie in another repository, and were copied here from it."""
    original = _original(image)
    original.sign("team", "attachment")
    for part in image.parts:
        _copy("attachment", original, part, image, part)


def copied_bundle(image: Image) -> None:
    """Image and bundles lie in another repository, and were copied here from it."""
    original = _original(image)
    original.sign("team", "bundle")
    for part in image.parts:
        _copy("bundle", original, part, image, part)


def sbom_only(image: Image) -> None:
    """The team attests an SBOM, and signs nothing."""
    for part in image.parts:
        sbom = bundles.statement(part.digest, SPDX, {"spdxVersion": "SPDX-2.3"})
        stored.add_bundle(image.registry, image.name, part, bundles.sign(image.keys["team"], sbom), SPDX)


def moved_tag(image: Image) -> None:
    """Signed, and then the tag moves to an unsigned image."""
    image.sign("team")
    image.push(image.new_layout("moved"))


def registry_swapped(image: Image) -> None:
    """The layout, which is imported, is an unsigned image; the registry's tag leads to a signed one."""
    unsigned = image.layout
    image.push(image.new_layout("swapped_in"))
    image.sign("team")
    image.layout = unsigned


def index_only(image: Image) -> None:
    """Only the index is signed."""
    image.sign("team", only=[image.root])


def platform_only(image: Image) -> None:
    """Only the platform manifests are signed."""
    image.sign("team", only=image.parts[1:])


def replaced_platform(image: Image) -> None:
    """A signed index, and the same with other platform manifests and the old signatures."""
    signed = image.root
    image.sign("team", only=[signed])
    image.push(image.new_layout("replaced"))
    for chosen in FORMATS:
        _copy(chosen, image, signed, image, image.root)


def either_key(image: Image) -> None:
    """Signed by the older of two keys."""
    image.sign("old")


def rotated_out(image: Image) -> None:
    """Signed by the key that its rule no longer names."""
    image.sign("old")


def revoked_key(image: Image) -> None:
    """Signed by a key that its rule names and the policy revokes."""
    image.sign("leaver")


def revoked_digest(image: Image) -> None:
    """Signed; the policy revokes its digest."""
    image.sign("team")


def critical(image: Image) -> None:
    """Signed by both keys of an ``allOf`` rule."""
    image.sign("team")
    image.sign("second")


def critical_one_missing(image: Image) -> None:
    """Signed by one of the two."""
    image.sign("team")


def accepted(image: Image) -> None:
    """Unsigned, in a scope that accepts."""


def rejected(image: Image) -> None:
    """Signed, in a scope that rejects."""
    image.sign("team")


def unmatched(image: Image) -> None:
    """Signed, in no scope."""
    image.sign("team")


def pinned(image: Image) -> None:
    """Unsigned, in no scope; the policy pins its digest."""


def two_scopes_a(image: Image) -> None:
    """Signed by the team, whom the scope trusts."""
    image.push(image.new_layout("two_scopes"))
    image.sign("team", "bundle")


def two_scopes_b(image: Image) -> None:
    """The same digest, signed by the team, whom the scope does not trust."""
    two_scopes_a(image)


def short_name(image: Image) -> None:
    """Signed, on Docker Hub's name."""
    image.sign("team")


def short_name_unsigned(image: Image) -> None:
    """Unsigned, on Docker Hub's name."""


def _copy(chosen: Format, source: Image, digest: Descriptor, target: Image, subject: Descriptor) -> None:
    """Hang on ``subject`` what is signed in one format on ``digest``, byte for byte."""
    for found in stored.listed(source.registry, source.name, digest.digest, chosen):
        content = stored.content(source.registry, source.name, found)
        if chosen == "bundle":
            stored.add_bundle(target.registry, target.name, subject, content)
        else:
            copy = simple.Attachment(content, found.signature)
            stored.add_attachment(target.registry, target.name, subject.digest, copy)


def _original(image: Image) -> Image:
    host = image.name.partition("/")[0]
    return Image(
        image.registry, f"{host}/cases/original", image.keys, image.authorities, image.new_layout, image.layout
    )
