"""Whether the images of a release are signed, attested, and where their tags point."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.oci import descriptor
from countersign.oci.errors import Malformed, NotFound, Tampered
from release import provenance, sbom, statement
from release.attest import on_image
from release.verify import Checker, Finding, Refused
from signing.verify import Access, verify

if TYPE_CHECKING:
    from countersign.oci.registry import Registry
    from release.made import Image, Release
    from release.notary import ByCertificate

_REASONS = {
    "UNSIGNED": "unsigned",
    "BAD_SIGNATURE": "bad-signature",
    "WRONG_IDENTITY": "wrong-identity",
    "UNTRUSTED_CHAIN": "bad-signature",
    "TAMPERED": "tampered",
    "OTHER_IMAGE": "other-subject",
}
"""The gate's code → what is said here; for any other, the message has it."""
_MOST = 64  # attestations of one kind on one digest that are looked at


def verify_images(
    checker: Checker,
    registry: Registry,
    release: Release,
    access: Access,
    scratch: Path,
    notary: ByCertificate | None = None,
    *,
    tags: bool,
) -> Iterator[Finding]:
    """Verify every image of a release, whose document holds; yield what came of each.

    Args:
        checker: what verifies.
        registry: where the images lie.
        release: of which images.
        access: how the gate's program reaches registries.
        scratch: a private folder.
        notary: by whose certificate they have to be signed, too.
        tags: whether tags have to be there already.
    """
    for image in release.images:
        if not image.repository:
            yield Finding(image.name, "missing", f"{release.manifest} does not say where it is; expected a repository")
            continue
        going_by = checker.trusted.image(image.repository, scratch)
        for digest in (image.digest, *image.platforms.values()):
            name = f"{image.repository}@{digest}"
            yield _found(f"{name}: there", lambda image=image, digest=digest: _exists(registry, image, digest))
            yield _found(f"{name}: signature", lambda name=name, by=going_by: _signed(checker, name, by, access))
            if notary:
                who = notary.image(image.repository, scratch)
                yield _found(f"{name}: notation", lambda name=name, by=who: _signed(checker, name, by, access))
            for what, predicate_type in _wanted(image, digest).items():
                yield _found(
                    f"{name}: {what}",
                    lambda image=image, digest=digest, what=what, kind=predicate_type: _attested(
                        checker, registry, release, image, digest, what, kind, scratch
                    ),
                )
        for tag in image.tags if tags else ():
            yield _found(
                f"{image.repository}:{tag}",
                lambda image=image, tag=tag: _points(checker, registry, release, image, tag, scratch),
            )


def _wanted(image: Image, digest: str) -> Mapping[str, str]:
    """Return what a digest has to be attested with: an index has provenance, a platform SBOMs too."""
    inventories = sbom.PREDICATES if digest in image.platforms.values() else {}
    return {"provenance": provenance.PREDICATE, **inventories}


def _found(what: str, check: Any) -> Finding:
    try:
        check()
    except Refused as err:
        return Finding(what, err.reason, err.detail)
    except NotFound as err:
        return Finding(what, "missing", str(err))
    except sbom.BadSbom as err:
        return Finding(what, "wrong-content", str(err))
    except (Tampered, Malformed) as err:
        return Finding(what, "tampered", str(err))
    return Finding(what)


def _exists(registry: Registry, image: Image, digest: str) -> None:
    """Read a manifest with all that it is made of: a registry may have other bytes under a digest, or none."""
    content, what = registry.manifest(image.repository, digest)
    if what.is_index:
        return
    where = f"{image.repository}@{digest}"
    manifest = descriptor.read_object(content, where)
    parts = [descriptor.from_json(manifest.get("config"), where)]
    for each in [*parts, *descriptor.read_descriptors(manifest, "layers", where)]:
        with tempfile.TemporaryFile() as file:
            registry.fetch(image.repository, each, file)


def _signed(checker: Checker, name: str, going_by: list[str], access: Access) -> None:
    verdict = verify(checker.program, name, going_by, access)
    if not verdict["allow"]:
        raise Refused(_REASONS.get(verdict["code"], "refused"), str(verdict["message"]))


def _attested(
    checker: Checker, registry: Registry, release: Release, image: Image,
    digest: str, what: str, predicate_type: str, scratch: Path,
) -> None:  # fmt: skip
    """Find an attestation that holds and says what fits; else tell what the one that came furthest lacks."""
    failure = Refused("unattested", f"nothing of type {predicate_type} hangs on it")
    for number, content in enumerate(on_image(registry, image.repository, digest, predicate_type)):
        if number == _MOST:
            raise Refused("refused", f"over {_MOST} attestations of type {predicate_type}, and none of these holds")
        path = scratch / "attestation.json"
        path.write_bytes(content)
        try:
            if statement.read(content, digest)[0] != predicate_type:
                continue
            checker.bundle(path, digest)
            _fits(release, digest, what, statement.read(content, digest)[2])
        except Malformed as err:
            failure = Refused("wrong-content", str(err))
        except Refused as err:
            failure = err
        else:
            return
    raise failure


def _fits(release: Release, digest: str, what: str, predicate: dict[str, Any]) -> None:
    if what == "provenance":
        if wrong := provenance.wrong(predicate, release):
            raise Refused("wrong-content", wrong)
        return
    document = sbom.check(what, json.dumps(predicate).encode(), digest)
    if (about := sbom.about(what, document)) != digest.removeprefix("sha256:"):
        raise Refused("other-subject", f"it is of sha256:{about}; expected {digest}")


def _points(
    checker: Checker, registry: Registry, release: Release, image: Image, tag: str, scratch: Path
) -> None:  # fmt: skip
    found = registry.manifest(image.repository, tag)[1].digest
    if found == image.digest:
        return
    floating = release.release.startswith(f"{tag}.")
    if floating and _is_later(checker, registry, release, image, found, scratch):
        return
    more = ", or a later release of that name" if floating else ""
    raise Refused("moved-tag", f"it points at {found}; expected {image.digest}{more}")


def _is_later(
    checker: Checker, registry: Registry, release: Release, image: Image, digest: str, scratch: Path
) -> bool:  # fmt: skip
    """Say whether a digest is proven to be this image of a later patch release: MAJOR.MINOR moves on, never back."""
    path = scratch / "later.json"
    for content in islice(on_image(registry, image.repository, digest, provenance.PREDICATE), _MOST):
        path.write_bytes(content)
        try:
            checker.bundle(path, digest)
            kind, subjects, predicate = statement.read(content, digest)
        except (Malformed, Refused):
            continue
        named = subjects.get(digest.removeprefix("sha256:")) == image.repository
        if named and kind == provenance.PREDICATE and provenance.later(predicate, release):
            return True
    return False
