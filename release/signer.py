"""Who signs a release: images, files and statements, always by digest."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from countersign.console.errors import InfrastructureError
from signing import bundle, sign

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey
    from countersign.oci.descriptor import Descriptor
    from countersign.oci.registry import Registry
    from signing.formats import Format


class Signer(Protocol):
    """Signs; what it gives are Sigstore bundles v0.3."""

    def file(self, content: bytes) -> bytes:
        """Return the bundle of a message signature over a file's content, as ``cosign sign-blob`` makes it."""

    def statement(self, content: bytes) -> bytes:
        """Return the bundle of an in-toto statement, as ``cosign attest-blob`` makes it."""

    def image(self, registry: Registry, name: str, target: Descriptor, formats: Sequence[Format]) -> None:
        """Hang a signature in each format on an index or manifest."""

    def wrote(self, content: bytes) -> bool:
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
        """See ``Signer``; all formats or an error: a release lacks none that it promises.

        Raises:
            InfrastructureError: one could not be written.
        """
        result = sign.sign(registry, name, target, self.key, formats)
        for wanted, why in result.failed.items():
            raise InfrastructureError(f"no {wanted} could be written: {why}", where=f"{name}@{target.digest}")

    def wrote(self, content: bytes) -> bool:
        """See ``Signer``."""
        try:
            envelope = json.loads(content)["dsseEnvelope"]
            signature = base64.b64decode(envelope["signatures"][0]["sig"])
            payload = base64.b64decode(envelope["payload"])
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return False
        return self.key.public.verifies(signature, bundle.pae(payload))


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
