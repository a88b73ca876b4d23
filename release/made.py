"""What one release consists of, and the folder in which it comes to be.

``FOLDER/files/`` is what is published and what a stranger gets; ``FOLDER/images/`` has the image layouts, and
``FOLDER/state.json`` says how far the making has come.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from countersign.console.errors import UsageError
from countersign.oci import digest as digests

VERSION = "countersign.release/v1"
SUMS = "SHA256SUMS"
BUNDLE = ".sigstore.json"
"""What a file's signature is called: the file's name and this."""
PROVENANCE = ".provenance.sigstore.json"
SBOMS = {"spdx": ".spdx.json", "cyclonedx": ".cdx.json"}
"""Form of an SBOM → what follows the program's name."""
KINDS = ("program", "source", "package", "file", "chart", "manifest")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,199}")
_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class File:
    """One file that is released for itself; signatures and SBOMs are named after it.

    Attributes:
        name: below ``files/``.
        kind: one of ``KINDS``.
        sha256: of its content, in hexadecimal.
        platform: what it runs on; empty for a source archive.
        program: of a program, its name in release.yaml.
    """

    name: str
    kind: str
    sha256: str
    platform: str = ""
    program: str = ""


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: its name in release.yaml.
        digest: of its index.
        platforms: platform → digest of its manifest.
        tags: that are to point at the index.
        programs: what is in it, by names in release.yaml.
        repository: where it was pushed; empty before.
    """

    name: str
    digest: str
    platforms: Mapping[str, str]
    tags: tuple[str, ...]
    programs: tuple[str, ...]
    repository: str = ""


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        project: the project's name.
        release: the version.
        source: the repository.
        commit: what it was built from.
        epoch: that commit's time, in seconds.
        files: what is released as files.
        images: what is released as images.
        scanned: whether it was looked at for known vulnerabilities.
    """

    project: str
    release: str
    source: str
    commit: str
    epoch: int
    files: tuple[File, ...] = ()
    images: tuple[Image, ...] = ()
    scanned: bool = False

    @property
    def title(self) -> str:
        """``NAME-VERSION``: what names of files begin with."""
        return f"{self.project}-{self.release}"

    @property
    def manifest(self) -> str:
        """The name of the file that describes the release."""
        return f"{self.title}.release.json"

    @property
    def scan(self) -> str:
        """The name of the file with the attested result of the scan."""
        return f"{self.title}.scan.sigstore.json"

    @property
    def sarif(self) -> str:
        """The name of the file with that result as SARIF."""
        return f"{self.title}.sarif.json"

    @property
    def provenance(self) -> str:
        """The name of the file with the provenance of all files."""
        return f"{self.title}{PROVENANCE}"

    def as_json(self) -> dict[str, Any]:
        """Return the document of ``manifest``."""
        return {"version": VERSION, **asdict(self)}

    def encoded(self) -> bytes:
        """Return that document's bytes: equal releases are equal bytes."""
        return (json.dumps(self.as_json(), indent=2, sort_keys=True) + "\n").encode()


def parse(content: bytes, where: str) -> Release:
    """Read a release's document; names in it are checked, so that they can be used as such.

    Raises:
        UsageError: it is none.
    """
    try:
        document = json.loads(content)
        good = document.pop("version") == VERSION
        files = tuple(File(**each) for each in document.pop("files"))
        images = tuple(
            Image(**{**each, "tags": tuple(each["tags"]), "programs": tuple(each["programs"])})
            for each in document.pop("images")
        )
        found = Release(**document, files=files, images=images)
        good = good and all(FILE_NAME.fullmatch(each.name) and each.kind in KINDS for each in files)
        for each in images:
            good = good and all(digests.valid(digest) for digest in (each.digest, *each.platforms.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        raise UsageError("does not describe a release", where=where, expected=f"a document {VERSION}")
    return found


@dataclass(frozen=True)
class Folder:
    """Where a release is made.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def files(self) -> Path:
        """What is published."""
        return self.path / "files"

    def layout(self, image: str) -> Path:
        """Return an image's layout."""
        return self.path / "images" / image

    def file(self, name: str) -> Path:
        """Return a published file."""
        return self.files / name


@dataclass(frozen=True)
class State:
    """How far a release has come.

    Attributes:
        release: what it consists of so far.
        stages: stage → the files that it wrote, with their SHA-256.
    """

    release: Release
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def holds(self, folder: Folder, stage: str) -> bool:
        """Say whether a stage is done, and what it wrote is there unchanged."""
        wrote = self.stages.get(stage)
        return wrote is not None and all(
            folder.file(name).is_file() and sha256(folder.file(name)) == value for name, value in wrote.items()
        )

    def done(self, folder: Folder, stage: str, names: list[str], release: Release | None = None) -> State:
        """Return the state after a stage that wrote these files, and keep it in the folder."""
        wrote = {name: sha256(folder.file(name)) for name in sorted(names)}
        found = replace(self, release=release or self.release, stages={**self.stages, stage: wrote})
        _write(folder.path / "state.json", {"release": found.release.as_json(), "stages": found.stages})
        return found


def read_state(folder: Folder) -> State | None:
    """Return the state that is kept in a folder; None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    path = folder.path / "state.json"
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_bytes())
        return State(parse(json.dumps(document["release"]).encode(), str(path)), document["stages"])
    except (ValueError, KeyError, TypeError) as err:
        raise UsageError("cannot be read", where=str(path), do=f"remove {folder.path}, and start again") from err


def sha256(path: Path) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256()
        while part := file.read(_LIMIT):
            found.update(part)
        return found.hexdigest()


def write(path: Path, content: bytes) -> None:
    """Put a whole file in place at once."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content)
    os.replace(beside, path)  # noqa: PTH105


def _write(path: Path, document: Mapping[str, Any]) -> None:
    write(path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())
