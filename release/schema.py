"""The form of ``release.yaml`` as pydantic models, and its errors in words."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from countersign.policy import unknown
from countersign.policy.document import Document
from countersign.policy.problems import Key, Problem

_SHOWN = 80  # characters
_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "too_short": "at least one entry",
    "string_too_short": "some text",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=False)


class ProgramEntry(_Strict):
    """A Go program."""

    name: str
    folder: str = "."
    package: str = "."
    tags: str = ""
    variable: str = ""


class ImageEntry(_Strict):
    """An image: of programs, of a Containerfile, or of a layout."""

    name: str
    programs: list[str] | None = Field(default=None, min_length=1)
    containerfile: str = ""
    context: str = ""
    layout: str = ""


class FileEntry(_Strict):
    """A file of a package."""

    source: str
    target: str
    mode: str = "0644"
    replace: dict[str, str] = {}


class ScriptsEntry(_Strict):
    """What a package runs."""

    after_install: str = Field(default="", alias="afterInstall")
    before_remove: str = Field(default="", alias="beforeRemove")


class PackageEntry(_Strict):
    """A package for Linux distributions."""

    name: str
    description: str = Field(min_length=1)
    formats: list[Literal["deb", "rpm"]] = Field(min_length=1)
    files: list[FileEntry] = Field(min_length=1)
    suggests: list[str] = []
    license: str = ""
    scripts: ScriptsEntry = ScriptsEntry()


class ChartEntry(_Strict):
    """A Helm chart."""

    folder: str
    image: str = ""
    values: str = ""
    kubernetes: list[str] = []
    manifest: bool = False


class ScanEntry(_Strict):
    """Known vulnerabilities stop a release."""

    exceptions: str
    fail_on: Literal["critical", "high", "medium", "low", "negligible"] = Field(default="critical", alias="failOn")
    vex: list[str] = []
    scanners: list[Literal["govulncheck", "grype"]] = Field(default=["govulncheck", "grype"], min_length=1)


class IdentityEntry(_Strict):
    """Who signs without a key."""

    issuer: str
    subject: str
    trusted_root: str = Field(alias="trustedRoot")


class NotationEntry(_Strict):
    """Who signs in the format notation."""

    certificate: str
    roots: list[str] = Field(min_length=1)
    identity: str


class SignEntry(_Strict):
    """Who signs, and how."""

    formats: list[Literal["attachment", "bundle", "notation"]] = Field(min_length=1)
    key: str = ""
    identity: IdentityEntry | None = None
    notation: NotationEntry | None = None


class ReleaseEntry(_Strict):
    """The whole file."""

    api_version: Literal["countersign.release/v1"] = Field(alias="apiVersion")
    name: str
    source: str
    registry: str
    version: str = ""
    changelog: str = ""
    platforms: list[str] = Field(default=["linux/amd64", "linux/arm64"], min_length=1)
    programs: list[ProgramEntry] = Field(min_length=1)
    images: list[ImageEntry] = []
    packages: list[PackageEntry] = []
    archive: bool = True
    files: list[str] = []
    chart: ChartEntry | None = None
    scan: ScanEntry | None = None
    sign: SignEntry


def validate(document: Document) -> ReleaseEntry | list[Problem]:
    """Check the form of a parsed file; return it, or every problem of form."""
    try:
        return ReleaseEntry.model_validate(document.value)
    except ValidationError as err:
        return [document.problem(*_problem(error)) for error in err.errors(include_url=False)]


def _problem(error: Any) -> tuple[Key, str]:
    loc, kind, given = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        return loc, unknown.said(ReleaseEntry, loc)
    if kind == "missing":
        return loc, "is missing"
    expected = error["ctx"]["expected"] if kind == "literal_error" else _EXPECTED.get(kind, error["msg"])
    text = "nothing" if given is None else repr(given)
    return loc, f"got {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}; expected {expected}"
