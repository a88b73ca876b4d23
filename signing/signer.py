"""Who signs: a key for itself, a key with its certificate, or an identity that a Sigstore has certified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from countersign.keys.pair import PrivateKey
from signing import attachment, bundle
from signing.attachment import Attachment
from signing.stored import Found


class Signer(Protocol):
    """Signs images and statements.

    Attributes:
        lasting: whether it writes the same again, signature apart: no certificate of minutes, and no time.
        names_subjects: whether its library wants a subject's name in a statement.
        attaches: whether it can sign attachments.
    """

    @property
    def lasting(self) -> bool:
        """See the class."""

    @property
    def names_subjects(self) -> bool:
        """See the class."""

    @property
    def attaches(self) -> bool:
        """See the class."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Say who it is, for JSON."""

    def statement(self, content: bytes) -> bytes:
        """Return the Sigstore bundle v0.3 of an in-toto statement."""

    def attachment(self, payload: bytes) -> Attachment:
        """Return the attachment of a payload."""

    def wrote(self, found: Found, content: bytes, wanted: bytes) -> bool:
        """Say whether what was found is exactly what it would write, and holds under its key.

        Args:
            wanted: the payload or the statement that would be signed.
        """


@dataclass(frozen=True)
class ByKey:
    """Signs with a key that nobody has certified."""

    key: PrivateKey
    lasting: bool = True
    names_subjects: bool = False
    attaches: bool = True

    @property
    def about(self) -> Mapping[str, Any]:
        """See ``Signer``."""
        return {"key": self.key.public.fingerprint}

    def statement(self, content: bytes) -> bytes:
        """See ``Signer``."""
        return bundle.sign(self.key, content)

    def attachment(self, payload: bytes) -> Attachment:
        """See ``Signer``."""
        return attachment.sign(self.key, payload)

    def wrote(self, found: Found, content: bytes, wanted: bytes) -> bool:
        """See ``Signer``."""
        if found.format == "attachment":
            return attachment.signed_by(self.key.public, Attachment(content, found.signature), wanted)
        return bundle.signed_by(self.key.public, content, wanted)
