"""How each image of the matrix comes to be whose scope asks for a certificate; see ``images``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.trials import certified
from lab.trials.authority import SERVER_AUTH, Authority, Signer
from lab.trials.signers import FUTURE, PAST, PERSON, WORKFLOW, person, workflow
from signing import attachment as simple
from signing import bundle as bundles
from signing import stored

if TYPE_CHECKING:
    from countersign.oci.descriptor import Descriptor
    from lab.trials.images import Image

_SPDX = "https://spdx.dev/Document"


def keyless_bundle(image: Image) -> None:
    """Bundle by the workflow."""
    _bundle(image, workflow(image.authorities.ours), image.authorities.ours)


def keyless_attachment(image: Image) -> None:
    """Attachment by the workflow, as cosign 1 and 2 make it."""
    _attachment(image, workflow(image.authorities.ours), image.authorities.ours)


def keyless_good_and_bad(image: Image) -> None:
    """Signatures of a stranger's authority first, then the workflow's."""
    for by in (image.authorities.strangers, image.authorities.ours):
        _bundle(image, workflow(by), by)
        _attachment(image, workflow(by), by)


def keyless_unsigned(image: Image) -> None:
    """Nothing hangs on it."""


def keyless_key_only(image: Image) -> None:
    """Signed by a key, in both formats."""
    image.sign("team")


def keyless_sbom_only(image: Image) -> None:
    """The workflow attests an SBOM, and signs nothing."""
    ours = image.authorities.ours
    for part in image.parts:
        sbom = bundles.statement(part.digest, _SPDX, {"spdxVersion": "SPDX-2.3"})
        stored.add_bundle(
            image.registry, image.name, part, certified.bundle(workflow(ours), sbom, ours), predicate_type=_SPDX
        )


def keyless_other_ca(image: Image) -> None:
    """The same names in a certificate of a stranger's authority; the log is ours."""
    _bundle(image, workflow(image.authorities.strangers), image.authorities.ours)


def keyless_other_workflow(image: Image) -> None:
    """Another workflow of the same repository."""
    _by(image, WORKFLOW.replace("release.yml", "test.yml"))


def keyless_other_ref(image: Image) -> None:
    """The same workflow on a branch."""
    _by(image, WORKFLOW.replace("refs/tags/v1", "refs/heads/main"))


def keyless_other_owner(image: Image) -> None:
    """The same workflow of an owner whose name begins the same."""
    _by(image, WORKFLOW.replace("/acme/", "/acme-evil/"))


def keyless_other_issuer(image: Image) -> None:
    """The same name, and another issuer vouched for it."""
    ours = image.authorities.ours
    _bundle(image, workflow(ours, issuer="https://gitlab.example"), ours)


def keyless_expired(image: Image) -> None:
    """Logged after the certificate had ended."""
    _bundle(image, workflow(image.authorities.ours, valid=PAST), image.authorities.ours)


def keyless_expired_attachment(image: Image) -> None:
    """The same as attachment."""
    _attachment(image, workflow(image.authorities.ours, valid=PAST), image.authorities.ours)


def keyless_not_yet_valid(image: Image) -> None:
    """Logged before the certificate began."""
    _bundle(image, workflow(image.authorities.ours, valid=FUTURE), image.authorities.ours)


def keyless_no_log(image: Image) -> None:
    """No log entry: nothing proves when it was signed."""
    _bundle(image, workflow(image.authorities.ours), None)


def keyless_no_log_attachment(image: Image) -> None:
    """The same as attachment."""
    _attachment(image, workflow(image.authorities.ours), None)


def keyless_other_log(image: Image) -> None:
    """The entry of a stranger's log."""
    _bundle(image, workflow(image.authorities.ours), image.authorities.strangers)


def keyless_no_sct(image: Image) -> None:
    """No log of certificates has signed the certificate."""
    _bundle(image, workflow(image.authorities.ours, sct=False), image.authorities.ours)


def keyless_altered_bundle(image: Image) -> None:
    """A signature around a statement that it does not sign."""
    ours, signer = image.authorities.ours, workflow(image.authorities.ours)
    for part in image.parts:
        signature = signer.key.sign(bundles.pae(bundles.statement(part.digest, predicate={"creator": "mallory"})))
        statement = bundles.statement(part.digest)
        entry = certified.dsse_entry(ours, signer, statement, signature)
        _hang(image, part, certified.wrap(signer, statement, signature, entry))


def keyless_altered_attachment(image: Image) -> None:
    """A signature beside a payload that it does not sign."""
    ours, signer = image.authorities.ours, workflow(image.authorities.ours)
    for part in image.parts:
        payload = simple.payload(image.name, part.digest)
        signed = certified.attachment(signer, payload.replace(b"null", b'{"creator":"mallory"}'), ours)
        altered = simple.Attachment(payload, signed.signature, signed.annotations)
        stored.add_attachment(image.registry, image.name, part.digest, altered)


def keyless_other_entry(image: Image) -> None:
    """The log's entry of another signature by the same signer."""
    ours, signer = image.authorities.ours, workflow(image.authorities.ours)
    for part in image.parts:
        statement, other = (bundles.statement(each) for each in (part.digest, image.other(part)))
        entry = certified.dsse_entry(ours, signer, other, signer.key.sign(bundles.pae(other)))
        _hang(image, part, certified.wrap(signer, statement, signer.key.sign(bundles.pae(statement)), entry))


def keyless_altered_entry(image: Image) -> None:
    """A log entry with another time than the log has signed."""
    ours, signer = image.authorities.ours, workflow(image.authorities.ours)
    for part in image.parts:
        statement = bundles.statement(part.digest)
        signature = signer.key.sign(bundles.pae(statement))
        entry = certified.dsse_entry(ours, signer, statement, signature)
        earlier = {**entry, "integratedTime": str(int(entry["integratedTime"]) - 60)}
        _hang(image, part, certified.wrap(signer, statement, signature, earlier))


def keyless_other_digest(image: Image) -> None:
    """The workflow's bundle for another digest."""
    ours, signer = image.authorities.ours, workflow(image.authorities.ours)
    for part in image.parts:
        _hang(image, part, certified.bundle(signer, bundles.statement(image.other(part)), ours))


def keyless_revoked(image: Image) -> None:
    """Signed with a certificate that the policy revokes."""
    _bundle(image, image.authorities.leaver, image.authorities.ours)


def certificate_and_key(image: Image) -> None:
    """Signed by the workflow and by a key, both of an ``allOf`` rule."""
    keyless_bundle(image)
    image.sign("team")


def certificate_and_key_one_missing(image: Image) -> None:
    """Signed by the key of that rule only."""
    image.sign("team")


def pki_bundle(image: Image) -> None:
    """Bundle by the person."""
    _bundle(image, person(image.authorities.ours), None)


def pki_attachment(image: Image) -> None:
    """Attachment by the person."""
    _attachment(image, person(image.authorities.ours), None)


def pki_good_and_bad(image: Image) -> None:
    """Signatures of a stranger's authority first, then the person's."""
    for by in (image.authorities.strangers, image.authorities.ours):
        _both(image, person(by))


def pki_unsigned(image: Image) -> None:
    """Nothing hangs on it."""


def pki_other_ca(image: Image) -> None:
    """The same name in a certificate of a stranger's authority."""
    _both(image, person(image.authorities.strangers))


def pki_not_for_code(image: Image) -> None:
    """The person's certificate is for a TLS server."""
    _both(image, person(image.authorities.ours, usage=SERVER_AUTH))


def pki_other_person(image: Image) -> None:
    """Another person of the same authority."""
    _both(image, person(image.authorities.ours, PERSON.replace("release", "intern")))


def pki_expired(image: Image) -> None:
    """The certificate has ended, and nothing proves that it was signed before."""
    _both(image, person(image.authorities.ours, valid=PAST))


def pki_not_yet_valid(image: Image) -> None:
    """The certificate begins later."""
    _both(image, person(image.authorities.ours, valid=FUTURE))


def pki_other_digest(image: Image) -> None:
    """The person's attachment for another digest."""
    signer = person(image.authorities.ours)
    for part in image.parts:
        other = certified.attachment(signer, simple.payload(image.name, image.other(part)))
        stored.add_attachment(image.registry, image.name, part.digest, other)


def _both(image: Image, signer: Signer) -> None:
    """Sign in both formats, for CRI-O's own engine reads attachments alone."""
    _bundle(image, signer, None)
    _attachment(image, signer, None)


def _by(image: Image, name: str) -> None:
    """Hang bundles and attachments of another workflow on an image."""
    ours = image.authorities.ours
    _bundle(image, workflow(ours, name), ours)
    _attachment(image, workflow(ours, name), ours)


def _bundle(image: Image, signer: Signer, log: Authority | None) -> None:
    for part in image.parts:
        _hang(image, part, certified.bundle(signer, bundles.statement(part.digest), log))


def _attachment(image: Image, signer: Signer, log: Authority | None) -> None:
    for part in image.parts:
        signed = certified.attachment(signer, simple.payload(image.name, part.digest), log)
        stored.add_attachment(image.registry, image.name, part.digest, signed)


def _hang(image: Image, part: Descriptor, content: bytes) -> None:
    stored.add_bundle(image.registry, image.name, part, content)
