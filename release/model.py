"""What a project releases, as ``release.yaml`` says it, and what one release consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from signing.stored import Format

PLATFORMS = ("linux/amd64", "linux/arm64")


@dataclass(frozen=True)
class Program:
    """One Go program.

    Attributes:
        name: its file name.
        folder: the Go module, from the project's root.
        package: the package within it, such as ``./cmd/app``.
        tags: Go build tags.
        variable: the Go variable that the linker sets to the version (``main.release``); empty for none.
    """

    name: str
    folder: str
    package: str
    tags: str = ""
    variable: str = ""


@dataclass(frozen=True)
class Image:
    """One image, made in one of three ways.

    Attributes:
        name: below the registry.
        programs: in the root of an otherwise empty file system; the first one is what it runs.
        containerfile: from the project's root; what buildah builds.
        context: the folder that it is built in, from the project's root.
        layout: an OCI layout that something else has made, from the project's root.
    """

    name: str
    programs: tuple[str, ...] = ()
    containerfile: str = ""
    context: str = "."
    layout: str = ""


@dataclass(frozen=True)
class Packaged:
    """One file of a package.

    Attributes:
        source: from the project's root; ``{NAME}`` is a program of this release, for the package's architecture.
        target: where it is installed.
        mode: its permissions.
        replace: text in it → what stands there instead.
    """

    source: str
    target: str
    mode: int = 0o644
    replace: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Package:
    """One package for Linux distributions, for each platform and format (deb, rpm).

    Attributes:
        license: by its SPDX identifier; rpm tells it.
        after_install: the script that runs once its files are in place, from the project's root; empty for none.
        before_remove: the one that runs before they go, or are replaced.
    """

    name: str
    description: str
    formats: tuple[str, ...]
    files: tuple[Packaged, ...]
    suggests: tuple[str, ...] = ()
    license: str = ""
    after_install: str = ""
    before_remove: str = ""


@dataclass(frozen=True)
class Chart:
    """A Helm chart.

    Attributes:
        name: as Chart.yaml has it.
        folder: from the project's root.
        image: the image of this release that its values name, by digest; empty for none.
        values: what it is rendered with, to see that it renders; empty for its own alone.
        kubernetes: the versions that have to take it (``1.37``); empty for the newest three.
        manifest: it is also released as plain YAML, rendered with ``values``, for who applies it without Helm.
    """

    name: str
    folder: str
    image: str = ""
    values: str = ""
    kubernetes: tuple[str, ...] = ()
    manifest: bool = False


@dataclass(frozen=True)
class Scan:
    """How a release is looked at for known vulnerabilities.

    Attributes:
        exceptions: the file with those that may be there.
        fail_on: the severity from which one stops the release.
        vex: documents that say what does no harm.
        scanners: who looks.
    """

    exceptions: Path
    fail_on: str
    vex: tuple[Path, ...]
    scanners: tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """Who signs without a key: exactly this subject, as this issuer tells it."""

    issuer: str
    subject: str
    trusted_root: Path


@dataclass(frozen=True)
class Notary:
    """Who signs images in the format notation.

    Attributes:
        certificate: a PEM file with the signer's certificate and those above it; the private key lies beside it.
        roots: certificates of the authorities that are trusted, each a PEM file.
        identity: exactly that certificate's subject (``x509.subject: …``).
    """

    certificate: Path
    roots: tuple[Path, ...]
    identity: str


@dataclass(frozen=True)
class Project:
    """A whole ``release.yaml``.

    Attributes:
        root: the folder that it lies in.
        name: what the files of a release begin with.
        source: where the source is, as provenance names it.
        registry: what image names begin with (``ghcr.io/acme``).
        version_file: a pyproject.toml that has the version; None where ``--version`` alone says it.
        changelog: has a section for each version; None for none.
        platforms: which the programs are built for.
        archive: whether the source is released, as an archive.
        files: what else is released as it is, from the project's root; a folder as an archive.
        chart: the Helm chart; None for none.
        scan: how it is looked at for known vulnerabilities; None for a project that is not.
        formats: of image signatures.
        key: the public key of who signs; None with an identity.
        identity: who signs without a key.
        notary: who signs in the format notation; None where ``formats`` has it not.
    """

    root: Path
    name: str
    source: str
    registry: str
    version_file: Path | None
    changelog: Path | None
    platforms: tuple[str, ...]
    programs: tuple[Program, ...]
    images: tuple[Image, ...]
    packages: tuple[Package, ...]
    archive: bool
    files: tuple[str, ...]
    chart: Chart | None
    scan: Scan | None
    formats: tuple[Format, ...]
    key: Path | None = None
    identity: Identity | None = None
    notary: Notary | None = None

    def program(self, name: str) -> Program:
        """Return the program of that name, which `load` has found to be there."""
        return next(each for each in self.programs if each.name == name)
