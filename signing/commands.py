"""Tasks: make keys, sign images, verify them, and show what hangs on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from countersign.console.config import Settings, settings_from
from countersign.console.errors import UsageError, VerdictError
from countersign.console.output import Branch, done, emit_json, emit_text, failed, say, show_tree
from countersign.console.task import task
from countersign.keys.source import PASSWORD
from signing.signers import CERTIFICATE_HELP, IDENTITY_HELP, KEY_HELP, opening, private

if TYPE_CHECKING:
    from countersign.oci.reference import Reference
    from signing.notary import Notary
    from signing.sign import Signed
    from signing.signer import Signer
    from signing.stored import Format
    from signing.tree import Node
    from signing.verify import Verdict

_IMAGE = "an image: NAME:TAG or NAME@DIGEST (may be given more than once)"


@task(
    help={
        "out": "where to: PREFIX.key and PREFIX.pub (default: keys/cosign of the configuration)",
        "force": "replace a key that is there",
        "password_file": f"file with the password; else {PASSWORD}, else the configuration's, else you are asked",
        "json": "one JSON document on stdout",
    }
)
def keys(context: Context, out: str = "", force: bool = False, password_file: str = "", json: bool = False) -> None:
    """Make a key pair in cosign's format.

    Example: ./inv signing.keys
    """
    from countersign.keys import files as keyfiles
    from countersign.keys import password
    from countersign.keys.pair import generate

    settings = settings_from(context)
    prefix = _path(out) or settings.keys / "cosign"
    keyfiles.check_uncommitted(prefix)
    if not force:
        keyfiles.check_free(prefix)
    given = _path(password_file) or settings.signing.password_file
    secret = password.choose(given, os.environ.get(PASSWORD), f"{prefix}.key", twice=True)
    key = generate()
    private, public = keyfiles.write(prefix, key, secret, force=force)
    done(f"{private} and {public}: {key.public.kind} {key.public.fingerprint}")
    if json:
        files = {"privateKey": str(private), "publicKey": str(public)}
        emit_json({"version": "countersign.keys/v1", **files, "fingerprint": key.public.fingerprint})


@task(
    iterable=["image"],
    optional=["identity"],
    help={
        "image": _IMAGE,
        "key": KEY_HELP,
        "certificate": CERTIFICATE_HELP,
        "identity": IDENTITY_HELP,
        "format": "attachment, bundle, notation (docs/notation.md), or several with commas between",
        "json": "one JSON document on stdout",
    },
)
def sign(
    context: Context,
    image: list[str],
    key: str = "",
    certificate: str = "",
    identity: str | None = None,
    format: str = "attachment,bundle",  # noqa: A002  the option's name
    json: bool = False,
) -> None:
    """Sign images by digest, with a key, a certificate or an identity; what they have stays.

    Twice with a key adds nothing; a timestamp or an identity's certificate is new each time, and so is the signature.
    The password, the chain, a timestamp server and the Sigstore are configuration: `signing` in invoke.yaml.
    Example: ./inv signing.sign --image registry.example/app:v1 --image registry.example/db:v2
    """
    settings = settings_from(context)
    refs = _references(image)
    formats = _formats(format)
    opened = opening(settings, key, certificate, identity) if formats != ["notation"] else None
    from countersign.oci.access import registry
    from signing import notary_options
    from signing import sign as signing

    client = registry(settings)
    found = [(ref, signing.targets(client, ref, recursive=settings.signing.recursive)) for ref in refs]
    for ref, targets in found:
        say(f"{ref} is {targets[0].digest}")
    notary = _notary(settings, formats, (key, certificate, identity))
    envelopes = notary_options.envelopes(client, notary, found) if notary else {}
    signer = opened() if opened else None
    formats = _possible(formats, signer) if signer else formats
    document: list[dict[str, Any]] = []
    for ref, targets in found:
        results = [
            signing.sign(client, ref.name, target, signer, formats, envelopes.get((ref.name, target.digest)))
            for target in targets
        ]
        for result in results:
            done(_signed_line(result))
        document.append({"image": str(ref), "digest": targets[0].digest, "signed": [_signed_json(r) for r in results]})
    for where in client.logins:
        say(f"login from {where}")
    if json:
        by = signer.about if signer else {"signer": notary.about if notary else ""}
        emit_json({"version": "countersign.signed/v1", **by, "images": document})


@task(
    iterable=["image", "key"],
    help={
        "image": _IMAGE,
        "key": "public key; any of several may have signed (default: keys/cosign.pub of the configuration)",
        "policy": "go by a rendered policy instead (policy.render)",
        "layout": "image layout that has the image and its signatures (as cosign save writes it); no registry is asked",
        "json": "one JSON document on stdout",
    },
)
def verify(
    context: Context, image: list[str], key: list[str], policy: str = "", layout: str = "", json: bool = False
) -> None:
    """Have the gate's engine say whether images are signed; exit code 1 if it refuses one.

    Example: ./inv signing.verify --image registry.example/app:v1 --key cosign.pub
    """
    from signing import verify as verifying

    settings = settings_from(context)
    if not image:
        raise _no_image()
    going_by, access = verifying.going_by(settings, policy, key), verifying.access(settings, layout)
    program = verifying.program(settings)
    verdicts = []
    for one in image:
        verdicts.append(verifying.verify(program, one, going_by, access))
        _show(verdicts[-1])
    if json:
        emit_json({"version": "countersign.verified/v2", "images": verdicts})
    refused = sum(not one["allow"] for one in verdicts)
    if refused:
        raise VerdictError(f"the gate's engine refuses {refused} of {len(verdicts)} images")


@task(
    help={
        "key": KEY_HELP,
        "out": "file to write it to (default: stdout)",
    }
)
def public_key(context: Context, key: str = "", out: str = "") -> None:
    """Print the public half of a key, wherever it is kept: what a policy, and nodes, are given.

    Example: ./inv signing.public-key --key openbao://release --out release.pub
    """
    public = private(settings_from(context), key)().public
    if not out:
        emit_text(public.pem)
        return
    try:
        with Path(out).expanduser().open("x", encoding="ascii") as file:
            file.write(public.pem)
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=out, do="name another file") from err
    done(f"{out}: {public.kind} {public.fingerprint}")


@task(iterable=["image"], help={"image": _IMAGE, "json": "one JSON document on stdout"})
def tree(context: Context, image: list[str], json: bool = False) -> None:
    """Show what hangs on images: platforms, signatures, other referrers. Nothing is verified.

    Example: ./inv signing.tree --image registry.example/app:v1
    """
    from countersign.oci.access import registry
    from signing.tree import tree as read

    client = registry(settings_from(context))
    nodes = [(ref, read(client, ref)) for ref in _references(image)]
    if json:
        images = [{"image": str(ref), **node.as_json()} for ref, node in nodes]
        emit_json({"version": "countersign.tree/v1", "images": images})
        return
    for ref, node in nodes:
        show_tree(str(ref), [_drawn(node)])


def _references(images: list[str]) -> list[Reference]:
    from countersign.oci.reference import parse

    if not images:
        raise _no_image()
    return [parse(image) for image in images]


def _no_image() -> UsageError:
    return UsageError("no image", expected="--image NAME", do="see --help")


def _formats(text: str) -> list[Format]:
    from signing.stored import KNOWN

    asked = {part.strip() for part in text.split(",")}
    if not asked <= set(KNOWN):
        raise UsageError(f"got {text!r}", where="--format", expected=" or ".join(KNOWN))
    return [one for one in KNOWN if one in asked]


def _notary(settings: Settings, formats: list[Format], named: tuple[str, str, str | None]) -> Notary | None:
    """Return who signs in the format notation; None if that is not asked for."""
    from signing import notary_options

    return notary_options.signer(settings, *named) if "notation" in formats else None


def _possible(formats: list[Format], signer: Signer) -> list[Format]:
    """Return the formats that this signer can write.

    Raises:
        UsageError: none of them.
    """
    if signer.attaches or "attachment" not in formats:
        return formats
    if formats == ["attachment"]:
        raise UsageError(
            "the Sigstore has no log that attachments can be in", where="--format", expected="bundle, or a Rekor v1"
        )
    say("no attachment: the Sigstore has no Rekor v1, whose signed time attachments need")
    return [one for one in formats if one != "attachment"]


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _signed_line(result: Signed) -> str:
    target = result.target
    what = "index" if target.is_index else "manifest"
    platform = "/".join(str(target.platform[key]) for key in ("os", "architecture") if key in target.platform)
    outcome = [f"{one} added" for one in result.added] + [f"{one} was there" for one in result.present]
    outcome += [f"{one} could not be written: {why}" for one, why in result.failed.items()]
    return " ".join(filter(None, (what, platform, f"{target.digest}:", ", ".join(outcome))))


def _signed_json(result: Signed) -> dict[str, Any]:
    return {
        "digest": result.target.digest,
        "mediaType": result.target.media_type,
        "platform": dict(result.target.platform),
        "added": result.added,
        "present": result.present,
        "failed": {one: {"code": why.code, "message": str(why)} for one, why in result.failed.items()},
    }


def _show(verdict: Verdict) -> None:
    """Show a verdict: its steps, and the sentence."""
    for step in verdict.get("steps", []):
        mark = "✓" if step["ok"] else "✗"
        say(f"  {mark} {step['name']} {step['ms']:.2f} ms  {step.get('outcome', '')}")
    for detail in verdict.get("details", []):
        say(f"  {detail}")
    (done if verdict["allow"] else failed)(verdict["message"])


def _drawn(node: Node) -> Branch:
    """Return a node and what hangs below it, as lines of a tree."""
    leaves: list[Branch] = [(f"{leaf.kind} {leaf.digest} {leaf.about}", ()) for leaf in node.leaves]
    name = " ".join(filter(None, (node.kind, node.platform, node.digest)))
    return name, [*leaves, *map(_drawn, node.children)]
