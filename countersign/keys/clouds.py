"""Keys in a cloud's KMS, by its vendor's own library: ``awskms://``, ``gcpkms://``, ``azurekms://``, as cosign's.

The libraries are not in the lock (botocore would hold others back for everyone); one that is missing is named. They
find out who we are from where their vendors' own programs do. None of the three was tried against the vendor's service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from countersign.console.errors import CountersignError, InfrastructureError, MissingError, UsageError
from countersign.keys.remote import Public, from_raw, read_public

AWS, GCP, AZURE = "awskms://", "gcpkms://", "azurekms://"
SCHEMES = (AWS, GCP, AZURE)
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    AWS: ("boto3",),
    GCP: ("google-cloud-kms",),
    AZURE: ("azure-keyvault-keys", "azure-identity"),
}
"""Scheme → what has to be installed for it."""
_AWS_RE = re.compile(r"awskms://(?P<host>[^/]*)/(?P<key>[A-Za-z0-9:/_-]+)")
_ARN_RE = re.compile(r"arn:[^:]+:kms:([a-z0-9-]+):")
_GCP_RE = re.compile(
    r"gcpkms://(?P<key>projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)"
    r"/(?:cryptoKeyVersions|versions)/(?P<version>[0-9]+)"
)
_AZURE_RE = re.compile(r"azurekms://(?P<host>[A-Za-z0-9.-]+)/(?P<key>[A-Za-z0-9-]+)(?:/(?P<version>[A-Za-z0-9]+))?")


@dataclass(frozen=True)
class Key:
    """A key in a KMS."""

    where: str
    public: Public
    _sign: Callable[[bytes, str, bool], bytes] = field(repr=False)

    def sign_digest(self, digest: bytes, algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> bytes:
        """Have the KMS sign a digest."""
        if pss:
            raise UsageError("PSS is not asked of a cloud's KMS here", where=self.where, do="let a plugin sign with it")
        is_rsa = isinstance(self.public, rsa.RSAPublicKey)
        return bytes(_guarded(self.where, lambda: self._sign(digest, algorithm.name, is_rsa)))


def open_key(text: str) -> Key:
    """Read a key's public half from its KMS.

    Raises:
        UsageError: the URI names no key.
        MissingError: the vendor's library is not installed.
        InfrastructureError: the KMS refuses or does not answer.
    """
    scheme = next(one for one in SCHEMES if text.startswith(one))
    public, sign = _guarded(text, lambda: {AWS: _aws, GCP: _gcp, AZURE: _azure}[scheme](text))
    return Key(text, public, sign)


def _aws(text: str) -> tuple[Public, Callable[[bytes, str, bool], bytes]]:
    found = _match(_AWS_RE, text, "awskms:///KEY, a key's ID, alias/NAME or ARN; awskms://HOST/KEY for an endpoint")
    name = found["key"] or ""
    arn = _ARN_RE.match(name)
    region = {"region_name": arn[1]} if arn else {}
    endpoint = {"endpoint_url": f"https://{found['host']}"} if found["host"] else {}
    client = _library("boto3", AWS).client("kms", **region, **endpoint)
    public = read_public(client.get_public_key(KeyId=name)["PublicKey"], text)

    def sign(digest: bytes, algorithm: str, is_rsa: bool) -> bytes:
        kind = ("RSASSA_PKCS1_V1_5_SHA_" if is_rsa else "ECDSA_SHA_") + algorithm.removeprefix("sha")
        answer = client.sign(KeyId=name, Message=digest, MessageType="DIGEST", SigningAlgorithm=kind)
        return bytes(answer["Signature"])

    return public, sign


def _gcp(text: str) -> tuple[Public, Callable[[bytes, str, bool], bytes]]:
    form = "gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N"
    found = _match(_GCP_RE, text, form)
    name = f"{found['key']}/cryptoKeyVersions/{found['version']}"
    client = _library("google.cloud.kms", GCP).KeyManagementServiceClient()
    public = read_public(client.get_public_key(request={"name": name}).pem.encode(), text)

    def sign(digest: bytes, algorithm: str, _: bool) -> bytes:
        return bytes(client.asymmetric_sign(request={"name": name, "digest": {algorithm: digest}}).signature)

    return public, sign


def _azure(text: str) -> tuple[Public, Callable[[bytes, str, bool], bytes]]:
    found = _match(_AZURE_RE, text, "azurekms://VAULT.vault.azure.net/KEY[/VERSION]")
    who = _library("azure.identity", AZURE).DefaultAzureCredential()
    keys = _library("azure.keyvault.keys", AZURE).KeyClient(f"https://{found['host']}", who)
    key = keys.get_key(found["key"], found["version"])
    crypto = _library("azure.keyvault.keys.crypto", AZURE)
    client = crypto.CryptographyClient(key, who)
    public = _of_jwk(key.key, text)

    def sign(digest: bytes, algorithm: str, is_rsa: bool) -> bytes:
        kind = getattr(crypto.SignatureAlgorithm, ("rs" if is_rsa else "es") + algorithm.removeprefix("sha"))
        signature = bytes(client.sign(kind, digest).signature)
        return signature if is_rsa else from_raw(signature)

    return public, sign


def _of_jwk(key: Any, where: str) -> Public:
    """Return the public half of a JSON Web Key (RFC 7518)."""
    if str(key.kty).upper().startswith("RSA"):
        return rsa.RSAPublicNumbers(int.from_bytes(key.e, "big"), int.from_bytes(key.n, "big")).public_key()
    if str(key.crv) != "P-256":
        raise UsageError(f"a key of kind {key.kty} {key.crv}", where=where, expected="ECDSA P-256 or RSA")
    numbers = int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big")
    return ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()


def _match(form: re.Pattern[str], text: str, expected: str) -> Mapping[str, str | None]:
    found = form.fullmatch(text)
    if found is None:
        raise UsageError("names no key", where=text, expected=expected)
    return found.groupdict()


def _library(module: str, scheme: str) -> Any:
    try:
        return import_module(module)
    except ImportError as err:
        needed = " ".join(LIBRARIES[scheme])
        do = f"install it beside us: .venv/bin/python -m pip install {needed}"
        raise MissingError(f"the vendor's library {module} is not there", where=scheme, do=do) from err


def _guarded(where: str, act: Callable[[], Any]) -> Any:
    """Ask a vendor's library; its errors are all of its own kinds, and are said in one line."""
    try:
        return act()
    except CountersignError:
        raise
    except Exception as err:
        what = " ".join(str(err).split())[:200]
        raise InfrastructureError(f"the KMS refuses: {type(err).__name__}: {what}", where=where) from err
