"""Keys that sign where they are kept: an HSM, a vault, a cloud's KMS. Only digests go there.

To the formats they are private keys like others: they stand behind cryptography's own interfaces. What comes back is
held against the public key before anything is made of it: a signer that signs wrongly is found here, not on a node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from countersign.console.errors import InfrastructureError, UsageError
from countersign.keys.pair import PrivateKey, private_key

if TYPE_CHECKING:
    from typing_extensions import Self

Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Signer(Protocol):
    """Signs digests with a key that nobody else sees."""

    @property
    def where(self) -> str:
        """What it is called in messages."""

    @property
    def public(self) -> Public:
        """The public half."""

    def sign_digest(self, digest: bytes, algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> bytes:
        """Sign a digest: ASN.1 for ECDSA; for RSA PKCS #1 v1.5, or PSS with a salt as long as the digest.

        Raises:
            CountersignError: it cannot sign.
        """


def private(signer: Signer) -> PrivateKey:
    """Return a signer's key, as one that signs here.

    Raises:
        BadKey: it is not a key that we sign with.
    """
    return private_key(behind(signer), signer.where)


def behind(signer: Signer) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Return a signer's key behind cryptography's own interface, whatever its kind."""
    public = signer.public
    return _Ec(public, signer) if isinstance(public, ec.EllipticCurvePublicKey) else _Rsa(public, signer)


def read_public(content: bytes, where: str) -> Public:
    """Read a public key that a service gave, in PEM or DER.

    Raises:
        InfrastructureError: it is none that we could use.
    """
    try:
        load = serialization.load_pem_public_key if b"-----BEGIN" in content else serialization.load_der_public_key
        key = load(content)
    except ValueError as err:
        raise InfrastructureError("what it gives is not a public key", where=where) from err
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise UsageError(f"a key of kind {type(key).__name__}", where=where, expected="ECDSA P-256 or RSA")
    return key


def from_raw(raw: bytes) -> bytes:
    """Return an ECDSA signature in ASN.1; PKCS #11 and JOSE give its two numbers side by side."""
    half = len(raw) // 2
    return asymmetric.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


KeyT = TypeVar("KeyT", bound=Public)


class _Kept(Generic[KeyT]):
    """What both kinds of keys behind a signer have of cryptography's interface."""

    def __init__(self, public: KeyT, signer: Signer) -> None:
        self._public, self._signer = public, signer

    @property
    def key_size(self) -> int:
        """Its size in bits."""
        return self._public.key_size

    def public_key(self) -> KeyT:
        """Return the public half."""
        return self._public

    def private_numbers(self) -> NoReturn:
        """Refuse: it stays where it is."""
        raise _stays(self._signer)

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:  # noqa: A002, ARG002
        """Refuse: it stays where it is."""
        raise _stays(self._signer)

    def __copy__(self) -> Self:
        """Return itself: there is nothing to copy."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself."""
        return self


class _Ec(_Kept[ec.EllipticCurvePublicKey], ec.EllipticCurvePrivateKey):
    """An ECDSA key behind a signer."""

    @property
    def curve(self) -> ec.EllipticCurve:
        """Its curve."""
        return self._public.curve

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign ``data``."""
        digest, algorithm = _digest(bytes(data), signature_algorithm.algorithm)
        signature = self._signer.sign_digest(digest, algorithm)
        try:
            self._public.verify(signature, digest, ec.ECDSA(Prehashed(algorithm)))
        except InvalidSignature as err:
            raise _wrong(self._signer) from err
        return signature

    def exchange(self, _algorithm: ec.ECDH, _peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Refuse: it signs only."""
        raise _stays(self._signer)


class _Rsa(_Kept[rsa.RSAPublicKey], rsa.RSAPrivateKey):
    """An RSA key behind a signer; PKCS #1 v1.5, and PSS with a salt as long as the hash."""

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        """Sign ``data``."""
        pss = isinstance(padding, _PSS)
        if not pss and not isinstance(padding, _PKCS1):
            raise UsageError(f"{padding.name} is not signed with keys that are kept there", where=self._signer.where)
        digest, hashed = _digest(bytes(data), algorithm)
        signature = (
            self._signer.sign_digest(digest, hashed, pss=True) if pss else self._signer.sign_digest(digest, hashed)
        )
        try:
            self._public.verify(signature, digest, padding, Prehashed(hashed))
        except InvalidSignature as err:
            raise _wrong(self._signer) from err
        return signature

    def decrypt(self, _ciphertext: bytes, _padding: Any) -> bytes:
        """Refuse: it signs only."""
        raise _stays(self._signer)


_PKCS1, _PSS = padding.PKCS1v15, padding.PSS


def _digest(data: bytes, algorithm: Any) -> tuple[bytes, hashes.HashAlgorithm]:
    """Return what is to be signed, and how it was hashed."""
    hashed = hashes.Hash(algorithm)
    hashed.update(data)
    return hashed.finalize(), algorithm


def _wrong(signer: Signer) -> InfrastructureError:
    do = "do not use what it signs, and ask who runs it"
    return InfrastructureError("its signature does not hold under its own public key", where=signer.where, do=do)


def _stays(signer: Signer) -> UsageError:
    return UsageError("the key signs there, and cannot be taken out", where=signer.where)
