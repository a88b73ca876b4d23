"""The signer in the format notation, by a task's options and the configuration; and what it signs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cryptography.x509 import Certificate

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.keys import source
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from signing import chain, notary, plugin, signers
from signing import chain as chains
from signing.notary import Notary, Options
from signing.timestamp import Server

_BESIDE = (".crt", ".pem", ".cer")
"""Endings of the file beside a key that has its certificates."""
Envelopes = dict[tuple[str, str], bytes | None]
"""Repository and digest → the envelope to be hung there, or None where it is there already."""


def envelopes(client: Registry, signer: Notary, found: Sequence[tuple[Reference, Sequence[Descriptor]]]) -> Envelopes:
    """Have all signatures made before anything is pushed."""
    from signing import sign

    return {
        (ref.name, target.digest): sign.prepare(client, ref.name, target, signer)
        for ref, targets in found
        for target in targets
    }


def signer(settings: Settings, key: str, certificate: str, identity: str | bool | None) -> Notary:
    """Return who signs.

    Args:
        key: file of a private key; empty for the default one.
        certificate: file with its certificates; empty for the configuration's, or those beside it.
        identity: given where a Sigstore is to certify.

    Raises:
        CountersignError: there is no such signer, saying what is missing.
    """
    group, options = settings.notation, _options(settings)
    if identity:
        raise UsageError(
            "a Notary Project signature has certificates of its own", where="--identity, --format notation"
        )
    if group.plugin:
        found = plugin.find(group.plugin)
        named = plugin.Plugin(group.plugin, found, group.plugin_key, group.plugin_config, group.plugin_timeout)
        return plugin.signer(named, options)
    kept = source.for_notation(key, settings.signing.password_file, settings.environment)
    if kept is not None:
        where = key.partition("?")[0]
        own = Path(certificate).expanduser() if certificate else settings.signing.certificate
        if own is None:
            raise UsageError(
                "got no certificate", where=f"--key {where}", do="name its certificates: --certificate FILE"
            )
        return notary.by_private(kept, where, _certificates(settings, own), own, options)
    if source.is_remote(key):
        do = "let a plugin sign with it: notation.plugin (docs/notation.md)"
        raise UsageError("is not signed with in the format notation", where=f"--key {key.partition('?')[0]}", do=do)
    path = Path(key).expanduser() if key else settings.keys / "cosign.key"
    content = signers.clear(path, settings.signing.password_file)
    own = Path(certificate).expanduser() if certificate else settings.signing.certificate or beside(path)
    return notary.by_key(content(), str(path), _certificates(settings, own), own, options)


def _certificates(settings: Settings, own: Path) -> Sequence[Certificate]:
    certificates = chain.load(own)
    if len(certificates) == 1 and settings.signing.certificate_chain:
        certificates = (*certificates, *chain.load(settings.signing.certificate_chain))
    return certificates


def beside(key: Path) -> Path:
    """Return the file with a key's certificates that lies beside it.

    Raises:
        UsageError: there is none.
    """
    for ending in _BESIDE:
        if (found := key.with_suffix(ending)) != key and found.is_file():
            return found
    raise UsageError(
        f"there is no {key.with_suffix(_BESIDE[0])}",
        where=f"--format notation: {key}",
        expected="the key's certificates beside it, or --certificate to name them",
    )


def _options(settings: Settings) -> Options:
    from countersign.oci.proxy import from_environment
    from signing.timestamp import Server

    group, url = settings.notation, settings.signing.timestamp_server
    if not url:
        return Options(group.expiry)
    if group.timestamp_roots is None:
        expected = "a PEM file with the roots of signing.timestamp_server"
        raise UsageError("is empty", where="notation.timestamp_roots", expected=expected)
    server = Server(url, from_environment(os.environ))
    return Options(group.expiry, partial(token, server, group.timestamp_roots))


class NoTimestamp(InfrastructureError):
    """An authority gave a timestamp that does not count."""


def token(server: Server, roots: Path, signature: bytes) -> bytes:
    """Return a timestamp token over a signature, taken only if one's own roots vouch for its authority.

    A signature is only as lasting as its timestamp, and who verifies it later may trust fewer authorities
    (CVE-2024-56138).

    Args:
        roots: PEM file with the roots that it leads to.

    Raises:
        InfrastructureError: there is none, or it is not by such an authority over this signature.
    """
    import rfc3161_client as tsp

    response = tsp.decode_timestamp_response(server.stamp(signature))
    verifier = tsp.VerifierBuilder()
    for root in chains.load(roots):
        verifier = verifier.add_root_certificate(root)
    try:
        verifier.build().verify_message(response, signature)
    except (ValueError, tsp.VerificationError) as err:
        raise NoTimestamp(
            f"the answer is not a timestamp that counts: {err}",
            where=server.url,
            expected=f"one by an authority of {roots}",
        ) from err
    return bytes(response.time_stamp_token())
