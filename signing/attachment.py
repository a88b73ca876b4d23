"""Attachments: cosign's "simple signing" signatures, in an image under the tag ``sha256-<hex>.sig``.

The payload is that of containers-signature(5), the signature stands beside it in an annotation (cosign's
SIGNATURE_SPEC.md). All functions are pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from countersign.keys.pair import PrivateKey, PublicKey
from countersign.oci import descriptor
from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed

LAYER_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
PAYLOAD_LIMIT = 1 << 20  # bytes
_TYPE = "cosign container image signature"
_EPOCH = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Attachment:
    """One signature: a layer of the ``.sig`` image.

    Attributes:
        signature: the signature over them, in base64.
        annotations: further annotations of the layer (certificates and the like).
    """

    payload: bytes
    signature: str
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def layer(self) -> Descriptor:
        """The layer's descriptor."""
        return descriptor.of(self.payload, LAYER_TYPE, annotations={SIGNATURE: self.signature, **self.annotations})


def tag(digest: str) -> str:
    """Return the tag of the signatures on ``digest``."""
    return digests.tag(digest, ".sig")


def payload(repository: str, digest: str) -> bytes:
    """Return what an attachment signs: that ``digest`` is an image of ``repository``.

    Args:
        repository: the name with its registry ("registry.example/app"), without tag or digest, as cosign writes it.
    """
    claim = {
        "critical": {
            "identity": {"docker-reference": repository},
            "image": {"docker-manifest-digest": digest},
            "type": _TYPE,
        },
        "optional": None,
    }
    return descriptor.encode(claim)


def claim(content: bytes) -> tuple[str, str]:
    """Return the repository and the digest that a payload names; the reverse of ``payload``.

    Raises:
        Malformed: if it is not a claim about an image.
    """
    try:
        critical = json.loads(content)["critical"]
        named = (critical["identity"]["docker-reference"], critical["image"]["docker-manifest-digest"])
        kind = critical["type"]
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise Malformed("the payload is not a claim about an image") from err
    if kind != _TYPE or not all(isinstance(text, str) for text in named):
        raise Malformed(f"the payload is a {kind!r}", expected=_TYPE)
    return named


def sign(key: PrivateKey, content: bytes) -> Attachment:
    """Sign a payload."""
    return Attachment(content, base64.b64encode(key.sign(content)).decode())


def signed_by(key: PublicKey, attachment: Attachment, content: bytes) -> bool:
    """Say whether an attachment is one of this payload, signed with this key."""
    try:
        signature = base64.b64decode(attachment.signature, validate=True)
    except ValueError:
        return False
    return attachment.payload == content and key.verifies(signature, content, sha256=True)


def appended(manifest: bytes | None, attachment: Attachment, where: str) -> tuple[bytes, bytes]:
    """Return the ``.sig`` image with one more signature; those it has stay as they are.

    Args:
        manifest: the image's manifest so far, or None.
        attachment: the new signature; its payload must be stored as a blob too.

    Returns:
        the new manifest and its config, which is a dummy that lists the layers, as cosign writes it.

    Raises:
        Malformed: if there is a manifest and it cannot be read.
    """
    new = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    document: dict[str, Any] = descriptor.read_object(manifest, where) if manifest else new
    layers = descriptor.read_descriptors(document, "layers", where) if manifest else []
    layers.append(attachment.layer)
    config = dummy_config([layer.digest for layer in layers])
    document["config"] = descriptor.of(config, OCI_CONFIG).as_json()
    document["layers"] = [*document.get("layers", []), attachment.layer.as_json()]
    return descriptor.encode(document), config


def dummy_config(layers: list[str]) -> bytes:
    """Return the config of a ``.sig`` image whose layers have these digests, as cosign writes it."""
    return descriptor.encode(
        {
            "architecture": "",
            "created": _EPOCH,
            "history": [{"created": _EPOCH} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": layers},
            "config": {},
        }
    )


def listed(manifest: bytes, where: str) -> list[tuple[Descriptor, str]]:
    """Return the signatures that a ``.sig`` image's manifest names: payload's descriptor, signature in base64.

    Raises:
        Malformed: if the manifest cannot be read.
    """
    document = descriptor.read_object(manifest, where)
    layers = descriptor.read_descriptors(document, "layers", where)
    return [(layer, layer.annotations.get(SIGNATURE, "")) for layer in layers if layer.media_type == LAYER_TYPE]
