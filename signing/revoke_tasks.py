"""Tasks: trust a key, a certificate or an image no more, in a policy or in a list that policies include."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from countersign.console import output
from countersign.console.config import Settings, settings_from
from countersign.console.errors import UsageError
from countersign.console.task import task
from countersign.keys.source import private_key


@task(
    iterable=["key", "certificate", "digest"],
    help={
        "key": "public key: a file, or sha256:HEX of its DER (each of the three may be given more than once)",
        "certificate": "certificate: a PEM file, or sha256:HEX of its DER",
        "digest": "an image: NAME:TAG or NAME@DIGEST (its index and every platform), or sha256:HEX alone",
        "policy": "the policy.yaml to amend (default: policy of the configuration)",
        "plan": "show what would be added, and change nothing",
        "json": "one JSON document on stdout",
    },
)
def revoke(
    context: Context,
    key: list[str],
    certificate: list[str],
    digest: list[str],
    policy: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Add keys, certificates or images to `revoked` of policy.yaml; policy.apply then brings it to the nodes.

    Example: ./inv signing.revoke --key keys/stolen.pub
    """
    from countersign.policy import amend
    from countersign.policy.load import load
    from signing import amended

    settings = settings_from(context)
    if not (key or certificate or digest):
        raise UsageError("nothing to revoke", expected="--key, --certificate or --digest", do="see --help")
    path = Path(policy).expanduser() if policy else settings.policy
    load(path)
    additions = named(settings, key, certificate, digest)
    before = path.read_text(encoding="utf-8")
    after = amend.revoke(before, additions, str(path))
    changed = before != after
    if changed:
        (amended.check if plan else amended.replace)(path, after)
    for name, values in additions.items():
        for value in values:
            output.say(f"revoked.{name}: {value}")
    for line in amended.difference(path, before, after):
        output.say(line)
    if plan:
        output.say(f"plan: {path} {'would be amended' if changed else 'has it all already'}, nothing was changed")
    elif changed:
        output.done(f"{path} is amended; now: ./inv policy.apply, then countersign-gate audit on the nodes (--stop)")
    else:
        output.skipped(f"{path} has it all already")
    if json:
        emitted = {"policy": str(path), "plan": plan, "changed": changed and not plan, "revoked": additions}
        output.emit_json({"version": "countersign.revoked/v1", **emitted})


def named(settings: Settings, key: list[str], certificate: list[str], digest: list[str]) -> dict[str, list[str]]:
    """Return what is to be revoked: list ("keys", "certificates", "digests") → fingerprints or digests."""
    return {
        "keys": [_key(one) for one in key],
        "certificates": [_certificate(one) for one in certificate],
        "digests": [found for one in digest for found in _digests(settings, one)],
    }


def _key(text: str) -> str:
    from countersign.keys.pair import load_public
    from countersign.oci import digest

    _whole(text, "--key")
    return text if digest.valid(text) else load_public(Path(text).expanduser()).fingerprint


def _whole(text: str, option: str) -> None:
    """Refuse a digest that is cut short or mistyped: it would be taken for the name of an image or a file."""
    from countersign.console.errors import UsageError
    from countersign.oci import digest

    if text.startswith("sha256:") and not digest.valid(text):
        raise UsageError(f"got {text!r}", where=option, expected="sha256: and 64 hexadecimal digits, in lower case")


def _certificate(text: str) -> str:
    from countersign.oci import digest
    from countersign.policy import certificates

    _whole(text, "--certificate")
    if digest.valid(text):
        return text
    try:
        return certificates.fingerprint(Path(text).expanduser())
    except certificates.BadFile as err:
        raise UsageError(str(err), where="--certificate") from err


def _digests(settings: Settings, text: str) -> list[str]:
    """Return an image's index and all its platforms: a platform's manifest is signed and named without its index."""
    from countersign.oci import digest
    from countersign.oci.access import registry
    from countersign.oci.reference import parse
    from signing.sign import targets

    _whole(text, "--digest")
    if digest.valid(text):
        return [text]
    return [target.digest for target in targets(registry(settings), parse(text))]


@task(
    iterable=["key", "certificate", "digest"],
    help={
        "file": "the list, JSON; it is made if it is not there, and its signature is FILE.sig",
        "signer": "private key that signs it (what --key of signing.sign takes; password: COSIGN_PASSWORD)",
        "key": "public key: a file, or sha256:HEX of its DER (each of the three may be given more than once)",
        "certificate": "certificate: a PEM file, or sha256:HEX of its DER",
        "digest": "an image: NAME:TAG or NAME@DIGEST (its index and every platform), or sha256:HEX alone",
        "plan": "show what would be added, and change nothing",
    },
)
def revocation_list(
    context: Context,
    key: list[str],
    certificate: list[str],
    digest: list[str],
    file: str = "",
    signer: str = "",
    plan: bool = False,
) -> None:
    """Add keys, certificates or images to a list that policies include, with its next serial, and sign it.

    Without any of them what lies there is signed as it is, as after a change by hand.

    Example: ./inv signing.revocation-list --file revocations.json --signer security.key --key keys/stolen.pub
    """
    from signing import revocation_list as lists

    settings = settings_from(context)
    if not file or not signer:
        raise UsageError(f"no {'list' if not file else 'key'}", expected="--file FILE --signer KEY", do="see --help")
    path = Path(file).expanduser()
    amended = lists.amended(path, named(settings, key, certificate, digest))
    for line in amended.difference:
        output.say(line)
    if plan:
        output.say(f"plan: {path}: serial {amended.serial}, nothing was changed")
    elif lists.write(path, amended, private_key(signer, settings.environment)):
        output.done(f"{path}: serial {amended.serial}, signed; now, for each policy with it: ./inv policy.apply")
    else:
        output.skipped(f"{path}: serial {amended.serial}, with all of it, and signed")
