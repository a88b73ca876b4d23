"""How each image of the matrix comes to be: the steps of its entry in ``matrix.yaml`` (`lab.trials.marks`), done.

Private keys are made anew for each build and never written; images carry a build mark, so no two builds share a digest.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from countersign.keys.pair import PrivateKey
from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, encode, of
from lab.trials import certified, notarial
from lab.trials.authority import CODE_SIGNING, LASTING, SERVER_AUTH, Authority, Signer
from lab.trials.image import Image
from lab.trials.marks import Copied, Mark, Notarized, Push, Stamp, Step
from lab.trials.signers import FUTURE, ISSUER, PAST, PERSON, THEN, WORKFLOW, person, workflow
from signing import attachment as simple
from signing import bundle as bundles
from signing import stored
from signing.sign import sign
from signing.stored import FORMATS, Format

TYPES = {
    "": bundles.PREDICATE_TYPE,
    "slsa": "https://slsa.dev/provenance/v1",
    "spdx": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
}
RIGHT = {"workflow": "release.yml", "numbers": [1, 2, 3]}
"""What the condition of the scope is true of."""
PREDICATES: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "none": dict,
    "right": lambda: RIGHT,
    "false": lambda: {**RIGHT, "workflow": "test.yml"},
    "other": lambda: {"workflow": "test.yml"},
    "error": lambda: {"numbers": []},
    "costly": lambda: {**RIGHT, "numbers": [1] * 3000},
    "sbom": lambda: {"spdxVersion": "SPDX-2.3"},
    "large": lambda: _sbom("zlib"),
    "large and false": lambda: _sbom("log4j-core"),
}
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
_COMPONENTS = 33_000
"""About 16 MiB of them."""
_MALLORY = {"creator": "mallory"}
_HOUR = dt.timedelta(hours=1)
_VALID = {"now": LASTING, "past": PAST, "future": FUTURE}


def make(image: Image, steps: Sequence[Step]) -> None:
    """Do to a freshly pushed image what its entry says."""
    for step in steps:
        match step:
            case Mark():
                _sign(image, step)
            case Notarized():
                notarial.sign(image, step)
            case Push():
                _push(image, step)
            case Copied():
                host = image.name.partition("/")[0]
                original = replace(image, name=f"{host}/cases/original")
                _sign(original, Mark(by="team", formats=(step.copied,)))
                for part in image.parts:
                    _copy(step.copied, original, part, image, part)


def _push(image: Image, step: Push) -> None:
    old, before = image.root, image.layout
    image.push(image.new_layout(step.push))
    for chosen in FORMATS if step.carries else ():
        _copy(chosen, image, old, image, image.root)
    if step.hidden:
        image.layout = before


def _sign(image: Image, mark: Mark) -> None:
    parts = {"": image.parts, "index": [image.root], "platforms": image.parts[1:]}[mark.only]
    signer, predicate = _signer(image, mark), PREDICATES[mark.predicate]()
    for part in parts:
        if isinstance(signer, PrivateKey) and not (mark.altered or mark.of_other or mark.type):
            sign(image.registry, image.name, part, signer, [each for each in FORMATS if each in mark.formats])
            continue
        for chosen in mark.formats:
            if chosen == "attachment":
                stored.add_attachment(image.registry, image.name, part.digest, _attachment(image, mark, signer, part))
            elif chosen == "bundle":
                image.hang(part, _bundle(image, mark, signer, part, predicate), TYPES[mark.type])
            else:
                _attach(image, part, signer, predicate)


def _signer(image: Image, mark: Mark) -> Signer | PrivateKey:
    who, valid = image.authorities, _VALID[mark.valid]
    by = who.ours if mark.authority == "ours" else who.strangers
    if mark.days_ago:
        ago = dt.timedelta(days=mark.days_ago)
        valid = (-ago - _HOUR, -ago + _HOUR)
    match mark.by:
        case "workflow":
            name, issuer = _replaced(WORKFLOW, mark.name), mark.issuer or ISSUER
            return workflow(by, name, issuer=issuer, valid=valid, sct=mark.sct)
        case "person":
            usage = SERVER_AUTH if mark.usage == "server" else CODE_SIGNING
            return person(by, _replaced(PERSON, mark.name), valid=valid, usage=usage)
        case "listed":
            return who.listed
        case "revoked":
            return who.leaver
    return image.keys[mark.by]


def _replaced(text: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        text = text.replace(old, new)
    return text


def _bundle(image: Image, mark: Mark, signer: Signer | PrivateKey, part: Descriptor, said: Mapping[str, Any]) -> bytes:
    """Return the bundle of what is stated of a digest."""
    digest = (image.other(part) if mark.of_other else part).digest
    statement = bundles.statement(digest, TYPES[mark.type], said)
    signed = bundles.statement(digest, TYPES[mark.type], {**said, **_MALLORY}) if mark.altered else statement
    if isinstance(signer, PrivateKey):
        return bundles.wrap(statement, signer.sign(bundles.pae(signed)), signer.public.hint)
    signature = signer.key.sign(bundles.pae(signed))
    entry, log = None, _log(image, mark)
    if log and mark.entry == "other":
        other = bundles.statement(image.other(part).digest)
        entry = certified.dsse_entry(log, signer, other, signer.key.sign(bundles.pae(other)))
    elif log:
        entry = certified.dsse_entry(log, signer, statement, signature, dt.timedelta(days=mark.days_ago))
    if entry and mark.entry == "earlier":
        entry = {**entry, "integratedTime": str(int(entry["integratedTime"]) - 60)}
    return certified.wrap(signer, statement, signature, entry, _stamped(image, mark.stamp, signature))


def _attachment(image: Image, mark: Mark, signer: Signer | PrivateKey, part: Descriptor) -> simple.Attachment:
    payload = simple.payload(image.name, (image.other(part) if mark.of_other else part).digest)
    signed = payload.replace(b"null", json.dumps(_MALLORY).encode()) if mark.altered else payload
    if isinstance(signer, PrivateKey):
        return replace(simple.sign(signer, signed), payload=payload)
    signature, log = signer.key.sign(signed), _log(image, mark)
    entry = certified.rekord_entry(log, signer, signed, signature) if log else None
    return certified.attached(signer, payload, signature, entry, _stamped(image, mark.stamp, signature))


def _log(image: Image, mark: Mark) -> Authority | None:
    who = image.authorities
    usual = "none" if mark.by in {"person", "listed"} else "ours"
    return {"ours": who.ours, "strangers": who.strangers, "none": None}[mark.log or usual]


def _stamped(image: Image, stamp: Stamp | None, signature: bytes) -> bytes:
    """Return the timestamp of a signature; none where none is asked for."""
    if stamp is None:
        return b""
    who = image.authorities
    stamper = {"ours": who.stamper, "ended": who.old_stamper, "strangers": who.other_stamper}[stamp.by]
    found = stamper.stamp(b"another" if stamp.of_another else signature, dt.timedelta(0) if stamp.late else THEN)
    return found[:-1] + bytes([found[-1] ^ 1]) if stamp.altered else found


def _attach(image: Image, part: Descriptor, signer: Signer | PrivateKey, said: Mapping[str, Any]) -> None:
    """Attach an attestation as cosign 1 and 2 do (its ``ATTESTATION_SPEC.md``): a DSSE envelope under a tag."""
    if isinstance(signer, PrivateKey):
        raise TypeError("only certificates attest here")
    statement = bundles.statement(part.digest, TYPES["slsa"], said)
    signature = signer.key.sign(bundles.pae(statement))
    content = json.dumps(json.loads(bundles.wrap(statement, signature, ""))["dsseEnvelope"]).encode()
    entry = certified.dsse_entry(image.authorities.ours, signer, statement, signature)
    annotations = {simple.SIGNATURE: "", "predicateType": TYPES["slsa"], **certified.beside(signer, entry)}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": of(b"{}", OCI_CONFIG).as_json(),
        "layers": [of(content, ENVELOPE, annotations=annotations).as_json()],
    }
    for blob in (b"{}", content):
        image.registry.put_blob(image.name, blob)
    image.registry.put_manifest(image.name, digests.tag(part.digest, ".att"), encode(document), OCI_MANIFEST)


def _sbom(last: str) -> Mapping[str, Any]:
    """Return a CycloneDX document of 16 MiB whose last component has that name."""
    more = {"type": "library", "description": "x" * 400}
    components = [
        {"name": f"component-{n}", "purl": f"pkg:npm/component-{n}@1.2.{n}", **more} for n in range(_COMPONENTS)
    ]
    return {"bomFormat": "CycloneDX", "components": [*components, {"type": "library", "name": last}]}


def _copy(chosen: Format, source: Image, digest: Descriptor, target: Image, subject: Descriptor) -> None:
    """Hang on ``subject`` what is signed in one format on ``digest``, byte for byte."""
    for found in stored.listed(source.registry, source.name, digest.digest, chosen):
        content = stored.content(source.registry, source.name, found)
        if chosen == "bundle":
            target.hang(subject, content)
        else:
            copy = simple.Attachment(content, found.signature)
            stored.add_attachment(target.registry, target.name, subject.digest, copy)
