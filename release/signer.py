"""Who signs a release: images, files and statements, always by digest."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from countersign.console.errors import InfrastructureError, UsageError
from signing import bundle, sign

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey
    from countersign.oci.descriptor import Descriptor
    from countersign.oci.registry import Registry
    from signing.identity import ByIdentity as Certified
    from signing.notary import Notary
    from signing.stored import Format


class Signer(Protocol):
    """Signs; what it gives are Sigstore bundles v0.3."""

    def file(self, content: bytes) -> bytes:
        """Return the bundle of a message signature over a file's content, as ``cosign sign-blob`` makes it."""

    def statement(self, content: bytes) -> bytes:
        """Return the bundle of an in-toto statement, as ``cosign attest-blob`` makes it."""

    def image(self, registry: Registry, name: str, target: Descriptor, formats: Sequence[Format]) -> None:
        """Hang a signature in each format on an index or manifest."""

    def wrote(self, content: bytes, /) -> bool:
        """Say whether this very signer made the bundle of a statement, so that it need not be made again."""


@dataclass(frozen=True)
class ByKey:
    """Signs with a private key."""

    key: PrivateKey

    def file(self, content: bytes) -> bytes:
        """See ``Signer``."""
        digest = {"algorithm": "SHA2_256", "digest": _b64(hashlib.sha256(content).digest())}
        document = {
            "mediaType": bundle.MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.key.public.hint}},
            "messageSignature": {"messageDigest": digest, "signature": _b64(self.key.sign(content))},
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def statement(self, content: bytes) -> bytes:
        """See ``Signer``."""
        return bundle.sign(self.key, content)

    def image(self, registry: Registry, name: str, target: Descriptor, formats: Sequence[Format]) -> None:
        """See ``Signer``.

        Raises:
            InfrastructureError: one could not be written.
        """
        _signed(registry, name, target, self.key, formats)

    def wrote(self, content: bytes, /) -> bool:
        """See ``Signer``."""
        try:
            envelope = json.loads(content)["dsseEnvelope"]
            signature = base64.b64decode(envelope["signatures"][0]["sig"])
            payload = base64.b64decode(envelope["payload"])
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return False
        return self.key.public.verifies(signature, bundle.pae(payload))


@dataclass(frozen=True)
class ByIdentity:
    """Signs as an identity that a Sigstore certifies, such as a workflow's."""

    identity: Certified

    def file(self, content: bytes) -> bytes:
        """See ``Signer``."""
        return self.identity.file(content)

    def statement(self, content: bytes) -> bytes:
        """See ``Signer``."""
        return self.identity.statement(content)

    def image(self, registry: Registry, name: str, target: Descriptor, formats: Sequence[Format]) -> None:
        """See ``Signer``.

        Raises:
            InfrastructureError: one could not be written.
            UsageError: an attachment is wanted, and the Sigstore has no log of the kind that it needs.
        """
        if "attachment" in formats and not self.identity.attaches:
            do = "take attachment out of sign.formats"
            raise UsageError("the Sigstore has no Rekor v1, which attachments need", where="release.yaml", do=do)
        _signed(registry, name, target, self.identity, formats)

    def wrote(self, _content: bytes, /) -> bool:
        """See ``Signer``: a certificate of minutes is never there already."""
        return False


def notarise(registry: Registry, name: str, target: Descriptor, by: Notary) -> None:
    """Hang a signature in the format notation on an index or manifest, if it is not there.

    Raises:
        InfrastructureError: it could not be written.
    """
    envelope = sign.prepare(registry, name, target, by)
    for wanted, why in sign.sign(registry, name, target, None, ["notation"], envelope).failed.items():
        raise InfrastructureError(f"no {wanted} could be written: {why}", where=f"{name}@{target.digest}")


def nobody() -> Notary:
    """Raise: who signs in the format notation was not said."""
    raise UsageError("nobody signs in the format notation", where="release.yaml: sign.notation")


def _signed(
    registry: Registry, name: str, target: Descriptor, by: PrivateKey | Certified, formats: Sequence[Format]
) -> None:
    """Sign in all formats, or raise: a release lacks none that it promises."""
    for wanted, why in sign.sign(registry, name, target, by, formats).failed.items():
        raise InfrastructureError(f"no {wanted} could be written: {why}", where=f"{name}@{target.digest}")


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
