"""Attestations of a release: what is in it, and who built it from what. Never attached first and signed later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from countersign.oci import referrers
from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import Malformed, NotFound, Tampered
from release import compile as compiling
from release import filesystem, findings, inventory, provenance, sbom, scan, statement
from release.git import Commit
from release.made import SBOMS, File, Folder, Image, Release, write
from signing import bundle, stored

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.oci.registry import Registry
    from release.components import Component
    from release.signer import Signer

ATTESTATION = {form: ending.replace(".json", ".sigstore.json") for form, ending in SBOMS.items()}
"""Form of an SBOM → what follows the program's name in the file with its attestation."""


def attest_files(settings: Settings, release: Release, folder: Folder, signer: Signer, builder: str) -> list[str]:
    """Write an attestation of each SBOM of a program, and one provenance of all files; return their names."""
    written = []
    for file in release.files:
        for form in SBOMS if file.kind == "program" else ():
            name = file.name + ATTESTATION[form]
            document = json.loads(folder.file(file.name + SBOMS[form]).read_bytes())
            about = statement.make({file.name: file.sha256}, sbom.PREDICATES[form], document)
            write(folder.file(name), signer.statement(about) + b"\n")
            written.append(name)
    if release.scanned:
        document = json.loads((folder.path / "scan.json").read_bytes())
        scanned = {each.name: each.sha256 for each in release.files if each.kind == "program"}
        scanned |= scan.platforms(release)
        about = statement.make(scanned, findings.PREDICATE, document)
        write(folder.file(release.scan), signer.statement(about) + b"\n")
        written.append(release.scan)
    subjects = {each.name: each.sha256 for each in release.files}
    predicate = _provenance(settings, release, folder, builder)
    content = signer.statement(statement.make(subjects, provenance.PREDICATE, predicate))
    write(folder.file(release.provenance), content + b"\n")
    return [*written, release.provenance]


def attest_images(
    settings: Settings, registry: Registry, release: Release, folder: Folder,
    signer: Signer, builder: str, told: Callable[[str], object],
) -> list[str]:  # fmt: skip
    """Hang provenance on every image and platform, and SBOMs on every platform; return the SBOMs' files.

    Raises:
        RegistryError: a registry fails.
    """
    predicate = _provenance(settings, release, folder, builder)
    found = inventory.parts(settings, release, folder)
    written = []
    for image in release.images:
        for digest in (image.digest, *image.platforms.values()):
            _hang(registry, image, digest, provenance.PREDICATE, predicate, signer)
        for file, parts in _in_image(release, image, found):
            for form, content in _inventories(settings, release, image, file, parts, folder).items():
                ending = SBOMS[form]
                document = sbom.check(form, content, file.name + ending)
                write(folder.file(file.name + ending), content)
                written.append(file.name + ending)
                _hang(registry, image, f"sha256:{file.sha256}", sbom.PREDICATES[form], document, signer)
        told(f"{image.repository}@{image.digest}")
    return written


def _inventories(
    settings: Settings, release: Release, image: Image, file: File, parts: list[Component], folder: Folder
) -> Mapping[str, bytes]:
    """Return form → SBOM of one platform: of its programs' modules, or of what its file system has."""
    if not image.programs:
        return filesystem.inventory(settings, release, file, folder.layout(image.name))
    time = Commit(release.commit, release.epoch).time
    return {form: write_form(release, file, parts, time) for form, write_form in inventory.FORMS.items()}


def on_image(registry: Registry, name: str, digest: str, predicate_type: str) -> Iterator[bytes]:
    """Yield the bundles on an image that say that they have this predicate type, or do not say; none is verified."""
    for entry in referrers.listing(registry, name, digest):
        said = entry.annotations.get("dev.sigstore.bundle.predicateType", predicate_type)
        if entry.artifact_type == bundle.MEDIA_TYPE and said == predicate_type:
            try:
                yield stored.content(registry, name, stored.Found("bundle", entry))
            except (Malformed, NotFound, Tampered):
                continue  # what cannot be read attests nothing; another one may


def _hang(
    registry: Registry, image: Image, digest: str, predicate_type: str, predicate: Mapping[str, Any], signer: Signer
) -> None:
    """Attest once: what this signer has attested with the same words already is not repeated."""
    for there in on_image(registry, image.repository, digest, predicate_type):
        if signer.wrote(there) and statement.read(there, "")[2] == predicate:
            return
    what = registry.manifest(image.repository, digest)[1]
    new = statement.make({image.repository: digest.removeprefix("sha256:")}, predicate_type, predicate)
    subject = Descriptor(what.media_type, what.digest, what.size)
    stored.add_bundle(registry, image.repository, subject, signer.statement(new), predicate_type)


def _in_image(
    release: Release, image: Image, found: dict[str, list[Component]]
) -> Iterable[tuple[File, list[Component]]]:
    """Yield each platform of an image as something that SBOMs are about, with the modules in it."""
    for platform, digest in image.platforms.items():
        name = f"{image.name}-{release.release}-image-{platform.replace('/', '-')}"
        inside = [
            found[each.name] for each in release.files if each.platform == platform and each.program in image.programs
        ]
        merged = {part for parts in inside for part in parts}
        parts = sorted(merged, key=lambda part: (part.name != "stdlib", part.name, part.version))
        yield File(name, "program", digest.removeprefix("sha256:"), platform, image.name), parts


def _provenance(settings: Settings, release: Release, folder: Folder, builder: str) -> dict[str, object]:
    parts = {part for each in inventory.parts(settings, release, folder).values() for part in each}
    return provenance.predicate(release, builder, compiling.toolchain(settings).version, parts)
