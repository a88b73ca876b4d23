"""Task: a list of what is trusted no more, for all policies that include it."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from countersign.console import output
from countersign.console.config import settings_from
from countersign.console.errors import UsageError
from countersign.console.task import task
from countersign.keys.source import private_key
from signing.revoke_tasks import named


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
