"""Task: attest something about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invoke.context import Context

from countersign.console.config import settings_from
from countersign.console.errors import UsageError
from countersign.console.output import done, emit_json, say
from countersign.console.task import task
from signing.signers import IDENTITY_HELP, KEY_HELP, opening


@task(
    iterable=["image"],
    optional=["identity"],
    help={
        "image": "an image: NAME:TAG or NAME@DIGEST (may be given more than once)",
        "type": "what is attested: slsaprovenance1, spdxjson, cyclonedx, vuln, openvex, custom …, or a URI",
        "predicate": "file with what is said, JSON, at most 16 MiB",
        "key": KEY_HELP,
        "identity": IDENTITY_HELP,
        "json": "one JSON document on stdout",
    },
)
def attest(
    context: Context,
    image: list[str],
    type: str = "",  # noqa: A002  the option's name
    predicate: str = "",
    key: str = "",
    identity: str | None = None,
    json: bool = False,
) -> None:
    """Attest something about images by digest: index and platforms, as a signed in-toto statement.

    Who signs is said as for signing.sign, a certificate by INVOKE_SIGNING_CERTIFICATE. It is not a signature.
    Example: ./inv signing.attest --image registry.example/app:v1 --type spdxjson --predicate sbom.json
    """
    from countersign.oci.access import registry
    from countersign.oci.reference import parse
    from signing import attest as attesting
    from signing.sign import targets

    settings = settings_from(context)
    if not image:
        raise UsageError("no image", expected="--image NAME", do="see --help")
    refs = [parse(one) for one in image]
    kind = attesting.predicate_type(type)
    if not predicate:
        raise UsageError("no predicate", expected="--predicate FILE", do="see --help")
    stated = attesting.predicate(Path(predicate).expanduser(), type)
    opened = opening(settings, key, "", identity)
    client = registry(settings)
    found = [(ref, targets(client, ref, recursive=settings.signing.recursive)) for ref in refs]
    for ref, wanted in found:
        say(f"{ref} is {wanted[0].digest}")
    signer = opened()
    document: list[dict[str, Any]] = []
    for ref, wanted in found:
        results = []
        for target in wanted:
            added = attesting.attest(client, ref.name, target, signer, kind, stated)
            done(f"{target.digest}: {kind} {'added' if added else 'was there'}")
            results.append({"digest": target.digest, "added": added})
        document.append({"image": str(ref), "digest": wanted[0].digest, "attested": results})
    for where in client.logins:
        say(f"login from {where}")
    if json:
        emit_json({"version": "countersign.attested/v1", **signer.about, "predicateType": kind, "images": document})
