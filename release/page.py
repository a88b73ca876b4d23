"""The plain commands with which a stranger verifies a release: cosign, sha256sum and the gate's program."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from release import sbom
from release.attest import ATTESTATION
from release.made import BUNDLE, SBOMS, SUMS, Release

if TYPE_CHECKING:
    from release.notary import ByCertificate
    from release.trust import Trust

_TYPES = {"spdx": "spdxjson", "cyclonedx": "cyclonedx", "provenance": "slsaprovenance1", "scan": "vuln"}
"""What is attested → cosign's word for its predicate type."""


def commands(
    release: Release, trusted: Trust, folder: Path | None, notary: ByCertificate | None = None, *, tags: bool
) -> list[str]:
    """Return the commands, to be run one after another in the folder with the release's files, which is the first."""
    go_there = [f"cd {shlex.quote(str(folder))}"] if folder else []
    notarised = notary.commands(release.images) if notary and release.images else ()
    return [*go_there, *(shlex.join(each) for each in _all(release, trusted, tags=tags)), *notarised]


def _all(release: Release, trusted: Trust, *, tags: bool) -> Iterator[list[str]]:
    who = trusted.cosign()
    yield ["cosign", "verify-blob", *who, "--bundle", SUMS + BUNDLE, SUMS]
    yield ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    yield ["countersign-gate", "verify-bundle", *trusted.blob(), "--bundle", SUMS + BUNDLE, SUMS]
    for file in release.files:
        yield ["cosign", "verify-blob", *who, "--bundle", file.name + BUNDLE, file.name]
        attested = {"provenance": release.provenance}
        if file.kind == "program":
            attested |= {"scan": release.scan} if release.scanned else {}
            attested |= {form: file.name + ATTESTATION[form] for form in SBOMS}
        for what, bundle in attested.items():
            kind = ["--type", _TYPES[what]]
            yield ["cosign", "verify-blob-attestation", *who, *kind, "--bundle", bundle, file.name]
    for image in release.images:
        plain = ["--allow-http-registry=true"] if image.repository.startswith(("127.", "localhost")) else []
        for digest in (image.digest, *image.platforms.values()):
            name = f"{image.repository}@{digest}"
            yield ["cosign", "verify", *who, *plain, name]
            inventories = sbom.PREDICATES if digest != image.digest else {}
            for what in ("provenance", *inventories):
                yield ["cosign", "verify-attestation", *who, *plain, "--type", _TYPES[what], name]
        for tag in image.tags[:1] if tags else ():
            yield ["cosign", "verify", *who, *plain, f"{image.repository}:{tag}"]
