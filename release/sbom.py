"""SBOMs of Go programs in SPDX 2.3 and CycloneDX 1.6, from build information: equal programs give equal bytes.

What is stated is what the compiler knows: modules with their versions. Licences and who wrote them it does not know,
and the documents say so (NOASSERTION) rather than guess.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from countersign.console.errors import UsageError
from release.components import Component
from release.made import File, Release

TOOL = "countersign-release"
PREDICATES = {"spdx": "https://spdx.dev/Document", "cyclonedx": "https://cyclonedx.org/bom"}
"""Form → the predicate type under which an SBOM is attested (in-toto's attestation framework)."""
_SPDX_ID = re.compile(r"SPDXRef-[A-Za-z0-9.-]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_PACKAGE_URL = re.compile(r"pkg:[a-z]+/[^@\s]+(@\S+)?")


class BadSbom(UsageError):
    """A document is not an SBOM of its form."""


def spdx(release: Release, file: File, parts: Sequence[Component], time: str) -> bytes:
    """Return the SPDX document of a program.

    Args:
        release: what it is released with.
        file: the program.
        parts: its modules.
        time: when it was made, for the document: the commit's time (RFC 3339).
    """
    own = {
        "SPDXID": "SPDXRef-program",
        "name": file.program,
        "versionInfo": release.release,
        "packageFileName": file.name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": file.sha256}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "APPLICATION",
    }
    packages = [own, *(_spdx_package(number, each) for number, each in enumerate(parts))]
    relations = [
        {"spdxElementId": own["SPDXID"], "relationshipType": "DEPENDS_ON", "relatedSpdxElement": each["SPDXID"]}
        for each in packages[1:]
    ]
    return encode(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": file.name,
            "documentNamespace": f"{release.source}/spdx/{file.name}-{file.sha256}",
            "creationInfo": {"created": time, "creators": [f"Tool: {TOOL}"]},
            "packages": packages,
            "relationships": [
                {
                    "spdxElementId": "SPDXRef-DOCUMENT",
                    "relationshipType": "DESCRIBES",
                    "relatedSpdxElement": own["SPDXID"],
                },
                *relations,
            ],
        }
    )


def cyclonedx(release: Release, file: File, parts: Sequence[Component], time: str) -> bytes:
    """Return the CycloneDX document of a program; the arguments are those of `spdx`."""
    own = {
        "type": "application",
        "bom-ref": f"program:{file.name}",
        "name": file.program,
        "version": release.release,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
    }
    components = [
        {"type": "library", "bom-ref": each.purl, "name": each.name, "version": each.version, "purl": each.purl}
        for each in parts
    ]
    return encode(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{release.source}#{file.sha256}')}",
            "version": 1,
            "metadata": {
                "timestamp": time,
                "tools": {"components": [{"type": "application", "name": TOOL}]},
                "component": own,
            },
            "components": components,
            "dependencies": [
                {"ref": own["bom-ref"], "dependsOn": [each["bom-ref"] for each in components]},
                *({"ref": each["bom-ref"]} for each in components),
            ],
        }
    )


def check(form: str, content: bytes, where: str) -> Mapping[str, Any]:
    """Check what the form's specification requires of an SBOM; return the document.

    Raises:
        BadSbom: with the first rule that is broken.
    """
    try:
        document: dict[str, Any] = json.loads(content)
        broken = next(filter(None, _RULES[form](document)), "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        broken = f"{type(err).__name__} {err}"
    if broken:
        raise BadSbom(f"is not an SBOM in {form}: {broken}", where=where)
    return document


def about(form: str, document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the program that a checked SBOM is about."""
    if form == "spdx":
        described = next(
            each["relatedSpdxElement"] for each in document["relationships"] if each["relationshipType"] == "DESCRIBES"
        )
        own = next(each for each in document["packages"] if each["SPDXID"] == described)
        return str(own["checksums"][0]["checksumValue"])
    return str(document["metadata"]["component"]["hashes"][0]["content"])


def _spdx_package(number: int, part: Component) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-module-{number}",
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}
        ],
    }


def _spdx_rules(document: Mapping[str, Any]) -> list[str]:
    """Return what is broken of SPDX 2.3, clauses 6 (document), 7 (packages) and 11 (relationships)."""
    ids = [each["SPDXID"] for each in document["packages"]]
    known = {*ids, *(each["SPDXID"] for each in document.get("files", ())), "SPDXRef-DOCUMENT"}
    ends = {each[key] for each in document["relationships"] for key in ("spdxElementId", "relatedSpdxElement")}
    info = document["creationInfo"]
    refs = [ref for each in document["packages"] for ref in each.get("externalRefs", [])]
    purls = [ref["referenceLocator"] for ref in refs if ref["referenceType"] == "purl"]
    described = [each for each in document["relationships"] if each["relationshipType"] == "DESCRIBES"]
    return [
        _unless(document["spdxVersion"] == "SPDX-2.3", "spdxVersion is not SPDX-2.3"),
        _unless(document["dataLicense"] == "CC0-1.0", "dataLicense is not CC0-1.0"),
        _unless(document["SPDXID"] == "SPDXRef-DOCUMENT", "the document's SPDXID is not SPDXRef-DOCUMENT"),
        _unless(bool(document["name"]), "no name"),
        _unless("://" in document["documentNamespace"] and "#" not in document["documentNamespace"], "no namespace"),
        _unless(bool(_TIME.fullmatch(info["created"])), "created is not YYYY-MM-DDThh:mm:ssZ"),
        _unless(bool(info["creators"]), "no creators"),
        _unless(all(_SPDX_ID.fullmatch(each) for each in ids), "an SPDXID with other characters"),
        _unless(len(ids) == len(set(ids)), "an SPDXID twice"),
        _unless(
            all(each["name"] and each["downloadLocation"] for each in document["packages"]), "a package without name"
        ),
        _unless(all(_PACKAGE_URL.fullmatch(each) for each in purls), "a purl that is none"),
        _unless(ends <= known, "a relationship to what is not there"),
        _unless(len(described) == 1, "it does not describe one thing"),
    ]


def _cyclonedx_rules(document: Mapping[str, Any]) -> list[str]:
    """Return what is broken of CycloneDX 1.6's JSON schema."""
    metadata = document["metadata"]
    components = document.get("components", [])
    refs = [metadata["component"]["bom-ref"], *(each["bom-ref"] for each in components)]
    purls = [each["purl"] for each in components if "purl" in each]
    ends = {end for each in document.get("dependencies", ()) for end in (each["ref"], *each.get("dependsOn", []))}
    return [
        _unless(document["bomFormat"] == "CycloneDX", "bomFormat is not CycloneDX"),
        _unless(document["specVersion"] == "1.6", "specVersion is not 1.6"),
        _unless(document["serialNumber"] == f"urn:uuid:{uuid.UUID(document['serialNumber'][9:])}", "no serialNumber"),
        _unless(isinstance(document["version"], int) and document["version"] >= 1, "no version"),
        _unless(bool(_TIME.fullmatch(metadata["timestamp"])), "no timestamp"),
        _unless(all(each["type"] and each["name"] for each in components), "a component without name"),
        _unless(all(_PACKAGE_URL.fullmatch(each) for each in purls), "a purl that is none"),
        _unless(len(refs) == len(set(refs)), "a bom-ref twice"),
        _unless(ends <= set(refs), "a dependency on what is not there"),
    ]


_RULES = {"spdx": _spdx_rules, "cyclonedx": _cyclonedx_rules}


def _unless(holds: bool, text: str) -> str:
    return "" if holds else text


def encode(document: Mapping[str, Any]) -> bytes:
    """Return an SBOM's bytes."""
    return (json.dumps(document, indent=1) + "\n").encode()
