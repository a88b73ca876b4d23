"""SLSA v1 provenance: who built what, from which source and materials (slsa.dev/provenance/v1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from release.components import Component
from release.made import Release

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "countersign.release/build/v1"
_PATCH = re.compile(r"([0-9]+\.[0-9]+)\.([0-9]{1,9})")


def predicate(release: Release, builder: str, go: str, parts: Iterable[Component]) -> dict[str, Any]:
    """Return the predicate.

    Args:
        release: what was built.
        builder: who built it: the workflow with its ref, or the name of who did so by hand.
        go: the version of Go.
        parts: the modules of all programs.
    """
    modules = sorted({each for each in parts if each.name != "stdlib"}, key=lambda each: (each.name, each.version))
    return {
        "buildDefinition": {
            "buildType": f"{release.source}/{BUILD_TYPE}",
            "externalParameters": {
                "source": f"git+{release.source}@refs/tags/v{release.release}",
                "version": release.release,
            },
            "internalParameters": {"go": go, "sourceDateEpoch": release.epoch},
            "resolvedDependencies": [
                {"uri": f"git+{release.source}@refs/tags/v{release.release}", "digest": {"gitCommit": release.commit}},
                {"uri": f"pkg:generic/go@{go}"},
                *({"uri": each.purl, **({"digest": {"dirHash1": each.h1}} if each.h1 else {})} for each in modules),
            ],
        },
        "runDetails": {"builder": {"id": builder}},
    }


def wrong(document: Mapping[str, Any], release: Release) -> str:
    """Return what a provenance says otherwise than the release; empty if nothing.

    Args:
        document: the predicate, of a statement whose signature holds.
        release: what it should be about.
    """
    try:
        definition = document["buildDefinition"]
        source = definition["resolvedDependencies"][0]
        builder = document["runDetails"]["builder"]["id"]
        found = {
            "source": (source["uri"].partition("@")[0], f"git+{release.source}"),
            "commit": (source["digest"]["gitCommit"], release.commit),
            "version": (definition["externalParameters"]["version"], release.release),
        }
    except (KeyError, IndexError, TypeError, AttributeError):
        return "it is not an SLSA v1 provenance of this kind of build"
    for what, (there, wanted) in found.items():
        if there != wanted:
            return f"its {what} is {there!r}; expected {wanted!r}"
    return "" if isinstance(builder, str) and builder else "it names no builder"


def later(document: Mapping[str, Any], release: Release) -> bool:
    """Say whether a provenance is of the same source, and of a later patch release of the same MAJOR.MINOR.

    Args:
        document: the predicate, of a statement whose signature holds.
        release: later than what.
    """
    try:
        definition = document["buildDefinition"]
        version = str(definition["externalParameters"]["version"])
        commit = str(definition["resolvedDependencies"][0]["digest"]["gitCommit"])
    except (KeyError, IndexError, TypeError):
        return False
    ours, theirs = _PATCH.match(release.release), _PATCH.fullmatch(version)
    if not ours or not theirs or wrong(document, replace(release, release=version, commit=commit)):
        return False
    return ours[1] == theirs[1] and int(ours[2]) < int(theirs[2])
