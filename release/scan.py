"""Looks for known vulnerabilities in a release with every scanner that the project has, and makes one result of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from release import govulncheck, grype
from release.findings import Finding, Result
from release.made import SBOMS

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.made import Folder, Image, Release
    from release.model import Scan

SCANNERS = (govulncheck.NAME, grype.NAME)


@dataclass(frozen=True)
class Databases:
    """Where known vulnerabilities are had.

    Attributes:
        go: the Go vulnerability database: a URL or a folder.
        grype: see ``release.grype.environment``.
    """

    go: str = govulncheck.DATABASE
    grype: str = ""


def look(settings: Settings, wanted: Scan, release: Release, folder: Folder, databases: Databases) -> Result:
    """Look at all programs and images of a release.

    Raises:
        InfrastructureError: a scanner came to no result.
    """
    programs = [each.name for each in release.files if each.kind == "program"]
    results: list[Result] = []
    if govulncheck.NAME in wanted.scanners and programs:
        results.append(govulncheck.look(settings, [folder.file(name) for name in programs], databases.go))
    if grype.NAME in wanted.scanners:
        targets = [grype.Target(name, f"sbom:{folder.file(name + SBOMS['spdx'])}") for name in programs]
        targets += [
            grype.Target(name, f"oci-dir:{folder.layout(image.name)}", platform)
            for image in release.images
            for platform, name in _named(image, release).items()
        ]
        variables = grype.environment(settings, databases.grype)
        results.append(grype.look(settings, targets, variables, wanted.vex))
    return merged(results)


def platforms(release: Release) -> dict[str, str]:
    """Return name → SHA-256 of each platform of the images that are looked at themselves: those not of programs."""
    return {
        name: image.platforms[platform].removeprefix("sha256:")
        for image in release.images
        for platform, name in _named(image, release).items()
    }


def _named(image: Image, release: Release) -> dict[str, str]:
    names = {each: f"{image.name}-{release.release}-image-{each.replace('/', '-')}" for each in image.platforms}
    return {} if image.programs else names


def merged(results: Sequence[Result]) -> Result:
    """Return one result of several; what VEX excuses to one scanner, it excuses to all, for that artefact."""
    findings = [each for result in results for each in result.findings]
    excused = {(each.program, name): each.excused for each in findings if each.excused for name in each.names}
    return Result(
        tuple(each for result in results for each in result.scanners),
        tuple(each if each.excused else _excused(each, excused) for each in findings),
    )


def _excused(finding: Finding, excused: dict[tuple[str, str], str]) -> Finding:
    words = (excused[key] for name in finding.names if (key := (finding.program, name)) in excused)
    return replace(finding, excused=next(words, ""))
