"""How each image of the matrix comes to be whose scope asks for an attestation; see ``images``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, encode, of
from lab.trials import certified
from lab.trials.signers import WORKFLOW, workflow
from signing import attachment as simple
from signing import bundle as bundles
from signing import stored

if TYPE_CHECKING:
    from countersign.oci.descriptor import Descriptor
    from lab.trials.authority import Signer
    from lab.trials.images import Image

SLSA = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
CYCLONEDX = "https://cyclonedx.org/bom"
_COMPONENTS = 33_000
"""About 16 MiB of them."""
RIGHT = {"workflow": "release.yml", "numbers": [1, 2, 3]}
"""What the condition of the scope is true of."""
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
OLD = dt.timedelta(days=400)
"""More than the scope's ``maxAge``."""
_HOUR = dt.timedelta(hours=1)


def attested_bundle(image: Image) -> None:
    """Signed by the team, and the workflow attests what the scope asks for."""
    image.sign("team")
    _attest(image)


def attested_cosign2(image: Image) -> None:
    """The same, attached as cosign 2 does."""
    image.sign("team")
    _attach(image, workflow(image.authorities.ours), RIGHT)


def attested_good_and_bad(image: Image) -> None:
    """Attestations of another workflow and of another content first, then the right one."""
    image.sign("team")
    _attest(image, signer=_tester(image))
    _attest(image, {"workflow": "test.yml"})
    _attest(image)


def attested_missing(image: Image) -> None:
    """Signed, and nobody attests anything."""
    image.sign("team")


def attested_other_workflow(image: Image) -> None:
    """Another workflow attests it."""
    image.sign("team")
    _attest(image, signer=_tester(image))


def attested_other_workflow_cosign2(image: Image) -> None:
    """The same, attached as cosign 2 does."""
    image.sign("team")
    _attach(image, _tester(image), RIGHT)


def attested_other_predicate(image: Image) -> None:
    """The workflow attests something else."""
    image.sign("team")
    _attest(image, predicate_type=SPDX)


def attested_false(image: Image) -> None:
    """The condition is false of what the workflow attests."""
    image.sign("team")
    _attest(image, {**RIGHT, "workflow": "test.yml"})


def attested_error(image: Image) -> None:
    """The condition fails: what it looks at is not there."""
    image.sign("team")
    _attest(image, {"numbers": []})


def attested_costly(image: Image) -> None:
    """The condition costs too much of what the workflow attests."""
    image.sign("team")
    _attest(image, {**RIGHT, "numbers": [1] * 3000})


def attested_old(image: Image) -> None:
    """The workflow attested it more than a year ago."""
    image.sign("team")
    _attest(image, signer=workflow(image.authorities.ours, valid=(-OLD - _HOUR, -OLD + _HOUR)), ago=OLD)


def attested_no_time(image: Image) -> None:
    """No log entry: nothing proves how old it is."""
    image.sign("team")
    signer = workflow(image.authorities.ours)
    for part in image.parts:
        _hang(image, part, certified.bundle(signer, _statement(part.digest, RIGHT)))


def attested_other_digest(image: Image) -> None:
    """The workflow attests another digest."""
    image.sign("team")
    signer = workflow(image.authorities.ours)
    for part in image.parts:
        _hang(image, part, certified.bundle(signer, _statement(image.other(part), RIGHT), image.authorities.ours))


def attested_altered(image: Image) -> None:
    """A signature around a statement that it does not sign."""
    image.sign("team")
    ours, signer = image.authorities.ours, workflow(image.authorities.ours)
    for part in image.parts:
        signature = signer.key.sign(bundles.pae(_statement(part.digest, {**RIGHT, "workflow": "test.yml"})))
        statement = _statement(part.digest, RIGHT)
        entry = certified.dsse_entry(ours, signer, statement, signature)
        _hang(image, part, certified.wrap(signer, statement, signature, entry))


def attested_unsigned(image: Image) -> None:
    """The workflow attests it, and nobody signs it."""
    _attest(image)


def provenance_alone(image: Image) -> None:
    """The workflow attests it and nobody signs it, in a scope where that may stand for a signature."""
    _attest(image)


def provenance_other_workflow(image: Image) -> None:
    """Another workflow attests it."""
    _attest(image, signer=_tester(image))


def provenance_other_predicate(image: Image) -> None:
    """The workflow attests something that may not stand for a signature."""
    _attest(image, predicate_type=SPDX)


def provenance_other_digest(image: Image) -> None:
    """The workflow attests another digest."""
    signer = workflow(image.authorities.ours)
    for part in image.parts:
        _hang(image, part, certified.bundle(signer, _statement(image.other(part), RIGHT), image.authorities.ours))


def sbom_large(image: Image) -> None:
    """Signed by the team, and the workflow attests an SBOM of 16 MiB."""
    image.sign("team")
    _attest_index(image, _sbom("zlib"))


def sbom_large_false(image: Image) -> None:
    """The same with a component that the condition does not want."""
    image.sign("team")
    _attest_index(image, _sbom("log4j-core"))


def _sbom(last: str) -> Mapping[str, Any]:
    """Return a CycloneDX document of 16 MiB whose last component has that name."""
    components = [
        {
            "type": "library",
            "name": f"component-{n}",
            "purl": f"pkg:npm/component-{n}@1.2.{n}",
            "description": "x" * 400,
        }
        for n in range(_COMPONENTS)
    ]
    return {"bomFormat": "CycloneDX", "components": [*components, {"type": "library", "name": last}]}


def _attest_index(image: Image, predicate: Mapping[str, Any]) -> None:
    """Attest the index alone: that is enough, and large ones are not made three times."""
    signer, part = workflow(image.authorities.ours), image.root
    statement = _statement(part.digest, predicate, CYCLONEDX)
    _hang(image, part, certified.bundle(signer, statement, image.authorities.ours), CYCLONEDX)


def _tester(image: Image) -> Signer:
    return workflow(image.authorities.ours, WORKFLOW.replace("release.yml", "test.yml"))


def _statement(digest: str, predicate: Mapping[str, Any], predicate_type: str = SLSA) -> bytes:
    return bundles.statement(digest, predicate_type, predicate)


def _attest(
    image: Image,
    predicate: Mapping[str, Any] = RIGHT,
    predicate_type: str = SLSA,
    signer: Signer | None = None,
    ago: dt.timedelta = dt.timedelta(0),
) -> None:
    by = signer or workflow(image.authorities.ours)
    for part in image.parts:
        statement = _statement(part.digest, predicate, predicate_type)
        signature = by.key.sign(bundles.pae(statement))
        entry = certified.dsse_entry(image.authorities.ours, by, statement, signature, ago)
        _hang(image, part, certified.wrap(by, statement, signature, entry), predicate_type)


def _hang(image: Image, part: Descriptor, content: bytes, predicate_type: str = SLSA) -> None:
    stored.add_bundle(image.registry, image.name, part, content, predicate_type)


def _attach(image: Image, signer: Signer, predicate: Mapping[str, Any]) -> None:
    """Attach attestations as cosign 1 and 2 do (its ``ATTESTATION_SPEC.md``): DSSE envelopes under a tag."""
    for part in image.parts:
        statement = _statement(part.digest, predicate)
        signature = signer.key.sign(bundles.pae(statement))
        envelope = json.loads(bundles.wrap(statement, signature, ""))["dsseEnvelope"]
        content = json.dumps(envelope).encode()
        entry = certified.dsse_entry(image.authorities.ours, signer, statement, signature)
        annotations = {simple.SIGNATURE: "", "predicateType": SLSA, **certified.beside(signer, entry)}
        layer = of(content, ENVELOPE, annotations=annotations)
        config = b"{}"
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": of(config, OCI_CONFIG).as_json(),
            "layers": [layer.as_json()],
        }
        for blob in (config, content):
            image.registry.put_blob(image.name, blob)
        tag = digests.tag(part.digest, ".att")
        image.registry.put_manifest(image.name, tag, encode(document), OCI_MANIFEST)
