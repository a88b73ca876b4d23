"""Signing without a key of one's own: a Sigstore certifies an identity for some minutes, and logs what it signs.

The sigstore library does it: tokens, certificate, log, timestamps.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError, InfrastructureError, UsageError
from signing.sigstore_calls import failing, within

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import Signer as SigstoreSigner

    from signing.attachment import Attachment
    from signing.stored import Found

LOGGED = "dev.sigstore.cosign/bundle"
_TOKEN_LIMIT = 64 << 10  # bytes
_CONFIG_LIMIT = 1 << 20
_REKOR_1 = 1
_SECONDS = 120  # for certificate, timestamps and log entry of one signature
_SOURCES = "a token from CI, --identity FILE with one, or a terminal to log in from"


@dataclass(frozen=True)
class ByIdentity:
    """Signs as an identity that a Sigstore certifies: one certificate for each log, as long as it lasts.

    Attributes:
        config: trusted root and services of the Sigstore.
        token: what says who it is; secret.
    """

    config: ClientTrustConfig
    token: IdentityToken = field(repr=False)
    lasting: bool = field(default=False, init=False)
    names_subjects: bool = field(default=True, init=False)

    @property
    def about(self) -> Mapping[str, Any]:
        """See ``signing.signer.Signer``."""
        return {"identity": self.token.identity, "issuer": self.token.federated_issuer}

    @property
    def attaches(self) -> bool:
        """Whether the Sigstore has a log of the kind that attachments need: Rekor v1."""
        return _has_rekor_1(self.config)

    def statement(self, content: bytes) -> bytes:
        """See ``signing.signer.Signer``.

        Raises:
            InfrastructureError: the Sigstore gives no certificate, log entry or time.
        """
        from sigstore.dsse import Statement

        with failing("signing"):
            return _timed(within(_SECONDS, lambda: self._signer.sign_dsse(Statement(content))).to_json().encode())

    def file(self, content: bytes) -> bytes:
        """Return the bundle of a signature over a file's content, as ``cosign sign-blob`` makes it.

        Raises:
            InfrastructureError: the Sigstore gives no certificate, log entry or time.
        """
        with failing("signing"):
            return _timed(within(_SECONDS, lambda: self._signer.sign_artifact(content)).to_json().encode())

    def attachment(self, payload: bytes) -> Attachment:
        """See ``signing.signer.Signer``; certificate, chain and what the log signed are annotations, as cosign's.

        Raises:
            InfrastructureError: the Sigstore gives no certificate or log entry.
        """
        from signing.attachment import Attachment

        with failing("signing"):
            made = within(_SECONDS, lambda: self._rekor_1_signer.sign_artifact(payload))
        document = json.loads(made.to_json())
        (entry,) = document["verificationMaterial"]["tlogEntries"]
        beside = certified_annotations(made, self.config) | {LOGGED: logged(entry)}
        return Attachment(payload, document["messageSignature"]["signature"], beside)

    def wrote(self, _found: Found, _content: bytes, _wanted: bytes) -> bool:
        """See ``signing.signer.Signer``: a certificate of minutes is never there already."""
        return False

    @cached_property
    def _signer(self) -> SigstoreSigner:
        return _signer(self.config, self.token, None)

    @cached_property
    def _rekor_1_signer(self) -> SigstoreSigner:
        return _signer(self.config, self.token, _REKOR_1)


def _timed(made: bytes) -> bytes:
    """Return a bundle that has a time which somebody vouches for.

    Raises:
        InfrastructureError: it has none.
    """
    material = json.loads(made)["verificationMaterial"]
    stamped = (material.get("timestampVerificationData") or {}).get("rfc3161Timestamps")
    if not stamped and not int(material["tlogEntries"][0].get("integratedTime") or 0):
        raise InfrastructureError(
            "no timestamp was had, and the log signs no time",
            where="the Sigstore",
            expected="a timestamp: without one nobody knows when the certificate was used",
            do="look after its timestamp authority, and sign again",
        )
    return made


def open_config(file: Path | None, *, offline: bool = False) -> ClientTrustConfig:
    """Return a Sigstore's trust and services: those of a file (``ClientTrustConfig``), else the public Sigstore's.

    Raises:
        UsageError: the file cannot be used.
        InfrastructureError: the public Sigstore's cannot be had (by TUF).
    """
    from sigstore.models import ClientTrustConfig

    if file is None:
        do = "let this machine reach it, or name another one: INVOKE_SIGNING_TRUST_CONFIG"
        with failing("the public Sigstore", do=do):
            return ClientTrustConfig.production(offline=offline)
    content = _read(file, _CONFIG_LIMIT, "the trust config")
    try:
        with failing(str(file)):
            config = ClientTrustConfig.from_json(content.decode())
            for part in ("trusted_root", "signing_config"):  # they are checked when they are asked for
                getattr(config, part)
    except (CountersignError, ValueError, TypeError, AttributeError) as err:
        expected = "a client trust config: trusted root and signing config (…clienttrustconfig.v0.1+json)"
        raise UsageError("is not a trust config that can be used", where=str(file), expected=expected) from err
    return config


def token(config: Callable[[], ClientTrustConfig], file: Path | None) -> IdentityToken:
    """Return who signs: the token of a file, else the one that CI offers, else a person at a browser.

    Args:
        config: asked only where somebody logs in, for it may need a network.

    Raises:
        UsageError: there is none, or it cannot be used.
        InfrastructureError: who was asked for it fails.
    """
    from sigstore.oidc import IdentityError, IdentityToken, Issuer, detect_credential

    if file:
        text = _read(file, _TOKEN_LIMIT, "the token").decode("ascii", "replace").strip()
        where = str(file)
    else:
        try:
            text, where = detect_credential() or "", "the token of this CI"
        except IdentityError as err:
            raise UsageError(
                f"CI gives no token: {err}", do="allow it to (GitHub Actions: permissions: id-token: write)"
            ) from err
    if text or file:
        try:
            found = IdentityToken(text)
        except (IdentityError, ValueError) as err:
            expected = "an OpenID Connect token for the audience sigstore that has not expired"
            raise UsageError(f"no token that can be used: {err}", where=where, expected=expected) from err
        return found
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("no identity", where="--identity", expected=_SOURCES)
    with failing("the login"):
        return Issuer(config().signing_config.get_oidc_url()).identity_token(force_oob=True)


def certified_annotations(made: Bundle, config: ClientTrustConfig) -> dict[str, str]:
    """Return certificate and chain of a bundle as annotations; the chain is the trusted root's."""
    from signing.certified import beside

    leaf = made.signing_certificate
    return beside(leaf, list(_chain(leaf, config.trusted_root.get_fulcio_certs())))


def _chain(leaf: Certificate, known: list[Certificate]) -> Iterator[Certificate]:
    from cryptography.exceptions import InvalidSignature

    last = leaf
    for _ in known:
        for issuer in known:
            try:
                last.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                continue
            break
        else:
            return
        yield issuer
        if issuer.subject == issuer.issuer:
            return
        last = issuer


def logged(entry: Mapping[str, Any]) -> str:
    """Return an entry of Rekor v1 (``TransparencyLogEntry`` as JSON) as cosign's annotation has it."""
    payload = {
        "body": entry["canonicalizedBody"],
        "integratedTime": int(entry["integratedTime"]),
        "logIndex": int(entry["logIndex"]),
        "logID": base64.b64decode(entry["logId"]["keyId"]).hex(),
    }
    promise = entry["inclusionPromise"]["signedEntryTimestamp"]
    return json.dumps({"SignedEntryTimestamp": promise, "Payload": payload}, separators=(",", ":"))


def _has_rekor_1(config: ClientTrustConfig) -> bool:
    from sigstore.errors import Error

    try:
        return bool(_with_log(config, _REKOR_1).signing_config.get_tlogs())
    except (Error, ValueError):
        return False


def _with_log(config: ClientTrustConfig, version: int | None) -> ClientTrustConfig:
    """Return the same Sigstore, of whose logs only one version is used."""
    from sigstore.models import ClientTrustConfig

    found = ClientTrustConfig(config._inner)  # noqa: SLF001  there is no copy in the library
    found.force_tlog_version = version
    return found


def _signer(config: ClientTrustConfig, token: IdentityToken, log: int | None) -> SigstoreSigner:
    from sigstore.sign import SigningContext

    with SigningContext.from_trust_config(_with_log(config, log)).signer(token) as signer:
        return signer


def _read(file: Path, limit: int, what: str) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(limit + 1)
    except OSError as err:
        raise UsageError(f"{what} cannot be read: {err.strerror}", where=str(file)) from err
    if len(content) > limit:
        raise UsageError(f"more than {limit >> 10} KiB", where=str(file), expected=what)
    return content
