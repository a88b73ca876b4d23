"""Writes the SBOMs of a release's programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from release import compile as compiling
from release import components, sbom
from release.git import Commit
from release.made import SBOMS, Folder, Release, write

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.components import Component

FORMS = {"spdx": sbom.spdx, "cyclonedx": sbom.cyclonedx}


def parts(settings: Settings, release: Release, folder: Folder) -> dict[str, list[Component]]:
    """Return program's file name → the modules in it."""
    go = compiling.toolchain(settings)
    programs = [each for each in release.files if each.kind == "program"]
    return {
        each.name: components.read(compiling.build_info(go, folder.file(each.name)), each.name) for each in programs
    }


def write_sboms(settings: Settings, release: Release, folder: Folder) -> list[str]:
    """Write an SBOM in each form for each program; return the names of the files.

    Raises:
        InfrastructureError: a program has no build information, or an SBOM breaks its form's rules.
    """
    time = Commit(release.commit, release.epoch).time
    found = parts(settings, release, folder)
    written = []
    for file in release.files:
        if file.kind != "program":
            continue
        for form, ending in SBOMS.items():
            content = FORMS[form](release, file, found[file.name], time)
            sbom.check(form, content, file.name + ending)
            write(folder.file(file.name + ending), content)
            written.append(file.name + ending)
    return written
