"""Who signs in the format notation: a key with its certificates, or a Notation signing plugin."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509

from countersign.keys.sealed import BadKey
from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import Malformed
from signing import chain as chains
from signing import notation
from signing.chain import BadChain

AGENT = "countersign"
_RENEWED = 2  # an expiring signature is made anew in the second half of its life


@dataclass(frozen=True)
class Options:
    """How signatures are made.

    Attributes:
        expiry: how long each is good by its own word; None for ever.
        timestamp: signature → a timestamp token over it (RFC 3161); None for no timestamp.
    """

    expiry: timedelta | None = None
    timestamp: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Notary:
    """Who signs.

    Attributes:
        about: who it is, for messages.
        make: an image's descriptor → a signed envelope.
        spec, chain: of the key, and its certificates in DER; empty where they are known when it has signed.
    """

    about: str
    make: Callable[[Descriptor], bytes]
    options: Options
    spec: str = ""
    chain: tuple[bytes, ...] = ()

    def expected(self, target: Descriptor) -> notation.Envelope | None:
        """Return the envelope that ``make`` would give, without its signature; None where that is not known."""
        if not self.chain:
            return None
        attributes = json.loads(attributes_of(self.spec, self.options))
        stamp = b"some" if self.options.timestamp else b""
        return notation.Envelope(notation.payload(target), attributes, b"", b"", self.chain, stamp)


def by_key(content: bytes, where: str, chain: Sequence[x509.Certificate], of: Path, options: Options) -> Notary:
    """Return who signs with a key.

    Args:
        content: the private key in the clear: PKCS #8 in DER or PEM.
        chain: the certificates, the signer's own first.
        of: the file that they are from, for messages.

    Raises:
        BadKey: no key that the Notary Project signs with.
        BadChain: no chain for it.
    """
    return by_private(_private(content, where), where, chain, of, options)


def by_private(
    key: chains.Private, where: str, chain: Sequence[x509.Certificate], of: Path, options: Options
) -> Notary:
    """Return who signs with a key that is open, here or where it is kept.

    Raises:
        BadChain: no chain for it.
    """
    spec = chains.check(chain, str(of))
    if not chains.matches(chain[0], key):
        raise BadChain(
            f"the first certificate ({chain[0].subject.rfc4514_string()}) is of another key",
            where=str(of),
            expected=f"that of {where}",
        )
    der = chains.as_der(chain)

    def make(target: Descriptor) -> bytes:
        attributes, payload = attributes_of(spec, options), notation.payload(target)
        signature = chains.sign(key, notation.to_sign(attributes, payload))
        timestamp = options.timestamp(signature) if options.timestamp else b""
        return notation.wrap(attributes, payload, signature, der, agent=AGENT, timestamp=timestamp)

    return Notary(chain[0].subject.rfc4514_string(), make, options, spec, der)


def attributes_of(spec: str, options: Options) -> bytes:
    """Return the signed attributes of a signature that is made now."""
    now = datetime.now(timezone.utc)
    return notation.protected(spec, now, now + options.expiry if options.expiry else None)


def checked(content: bytes, target: Descriptor, where: str) -> notation.Envelope:
    """Read an envelope that was just made, by whomever, and see that it is a signature of the image.

    Raises:
        BadChain: it is none, saying why.
    """
    try:
        found = notation.parse(content)
        signed = notation.target(found)
    except Malformed as err:
        raise BadChain(err.found, where=where, expected="a JWS envelope of the Notary Project") from err
    chain = chains.parse(found.chain, where)
    spec = chains.check(chain, where)
    expected = {
        "the image that it signs": (f"{signed.media_type} {signed.digest}", f"{target.media_type} {target.digest}"),
        "its size": (signed.size, target.size),
        "the algorithm": (found.protected.get("alg"), notation.ALGORITHMS[spec]),
        "the type of its payload": (found.protected.get("cty"), notation.PAYLOAD_TYPE),
    }
    for what, (got, wanted) in expected.items():
        if got != wanted:
            raise BadChain(f"{what} is {got!r}", where=where, expected=repr(wanted))
    if not chains.holds(chain[0], found.signature, found.signed):
        raise BadChain("its signature does not hold under its own certificate", where=where)
    return found


def there(found: bytes, made: notation.Envelope) -> bool:
    """Say whether an envelope that hangs on the image is what was just made, but for its times.

    It holds under the same certificate, and where it expires, it is in the first half of its life.
    """
    try:
        old = notation.parse(found)
        leaf = chains.parse(old.chain[:1], "")
    except (Malformed, BadChain):
        return False
    if not old.like(made) or not leaf or not chains.holds(leaf[0], old.signature, old.signed):
        return False
    if old.expiry is None:
        return True
    return datetime.now(timezone.utc) < old.signing_time + (old.expiry - old.signing_time) / _RENEWED


def _private(content: bytes, where: str) -> chains.Private:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    pem = content.lstrip().startswith(b"-----BEGIN ")
    read = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        key = read(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        expected = "cosign's private key format, or PKCS #8 in the clear"
        raise BadKey("no private key that can be read", where=where, expected=expected) from err
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadKey(f"{type(key).__name__} does not sign here", where=where, expected="RSA or ECDSA")
    chains.spec(key.public_key(), where)
    return key
