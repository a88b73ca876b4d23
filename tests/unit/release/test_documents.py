"""SBOMs, provenance and checksums: deterministic, checked, and read with care."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from countersign.console.errors import InfrastructureError, UsageError
from release import checksums, components, provenance, sbom
from release.made import File, Image, Release, parse

DIGEST = "sha256:" + "a" * 64
FILE = File("app-1.2.3-linux-amd64", "program", "b" * 64, "linux/amd64", "app")
RELEASE = Release(
    "app", "1.2.3", "https://git.example/acme/app", "c" * 40, 1_790_000_000, (FILE,),
    (Image("app", DIGEST, {"linux/amd64": DIGEST}, ("1.2.3",), ("app",), "registry.example/acme/app"),),
)  # fmt: skip
INFO = {
    "GoVersion": "go1.27.3",
    "Deps": [
        {"Path": "example.com/B", "Version": "v2.0.0+incompatible", "Sum": "h1:" + "A" * 43 + "="},
        {"Path": "example.com/a", "Version": "v1.0.0", "Replace": {"Path": "example.com/fork", "Version": "v1.0.1"}},
    ],
}
PARTS = components.read(INFO, "app")
TIME = "2026-09-21T14:13:20Z"
FORMS = {"spdx": sbom.spdx, "cyclonedx": sbom.cyclonedx}
each_form = pytest.mark.parametrize("form", FORMS)


def test_components_are_what_was_compiled_in() -> None:
    assert [each.purl for each in PARTS] == [
        "pkg:golang/stdlib@1.27.3",
        "pkg:golang/example.com/b@v2.0.0%2Bincompatible",
        "pkg:golang/example.com/fork@v1.0.1",
    ]
    assert PARTS[1].h1 == "00" * 32


@pytest.mark.parametrize("info", [{}, {"GoVersion": "go1", "Deps": [{}]}, {"GoVersion": "go1", "Deps": "x"}])
def test_other_build_information_is_refused(info: dict[str, object]) -> None:
    with pytest.raises(InfrastructureError, match="cannot be read"):
        components.read(info, "app")


@each_form
def test_an_sbom_is_good_and_the_same_each_time(form: str) -> None:
    content = FORMS[form](RELEASE, FILE, PARTS, TIME)
    assert content == FORMS[form](RELEASE, FILE, PARTS, TIME)
    assert sbom.about(form, sbom.check(form, content, "x")) == FILE.sha256


@pytest.mark.parametrize(
    ("form", "old", "new", "broken"),
    [
        ("spdx", '"SPDX-2.3"', '"SPDX-2.2"', "spdxVersion"),
        ("spdx", '"SPDXRef-module-1"', '"SPDXRef-module-2"', "SPDXID twice"),
        ("spdx", TIME, "today", "created"),
        ("spdx", "pkg:golang/stdlib@", "golang/stdlib", "purl"),
        ("cyclonedx", '"1.6"', '"1.4"', "specVersion"),
        ("cyclonedx", "urn:uuid:", "urn:x:", "ValueError"),
        ("cyclonedx", '"ref": "pkg:golang/stdlib', '"ref": "pkg:golang/other', "dependency"),
    ],
)
def test_a_broken_rule_of_the_form_is_named(form: str, old: str, new: str, broken: str) -> None:
    text = FORMS[form](RELEASE, FILE, PARTS, TIME).decode()
    assert old in text
    with pytest.raises(sbom.BadSbom, match=broken):
        sbom.check(form, text.replace(old, new).encode(), "x")


def test_provenance_fits_its_own_release_only() -> None:
    found = provenance.predicate(RELEASE, "https://git.example/builder", "1.27.3", PARTS)
    assert provenance.wrong(found, RELEASE) == ""
    assert "its commit is" in provenance.wrong(found, replace(RELEASE, commit="d" * 40))
    assert "its version is" in provenance.wrong(found, replace(RELEASE, release="1.2.4"))
    assert "its source is" in provenance.wrong(found, replace(RELEASE, source="https://git.example/eve/app"))
    assert "no builder" in provenance.wrong({**found, "runDetails": {"builder": {"id": ""}}}, RELEASE)
    assert "is not an SLSA" in provenance.wrong({}, RELEASE)
    materials = found["buildDefinition"]["resolvedDependencies"]
    assert {"uri": "pkg:golang/example.com/b@v2.0.0%2Bincompatible", "digest": {"dirHash1": "00" * 32}} in materials


def test_a_release_is_read_as_it_was_written() -> None:
    assert parse(RELEASE.encoded(), "x") == RELEASE


@pytest.mark.parametrize("name", ["../etc/passwd", "a/b", ".hidden", "", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    document = RELEASE.as_json()
    document["files"][0]["name"] = name
    with pytest.raises(UsageError, match="does not describe a release"):
        parse(json.dumps(document).encode(), "x")
    with pytest.raises(UsageError, match="cannot be read"):
        checksums.parse(f"{'a' * 64}  {name}\n".encode(), "x")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": "countersign.release/v1"}', b"[" * 100_000])
def test_what_is_no_release_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="does not describe a release"):
        parse(content, "x")


def test_checksums_are_read() -> None:
    assert checksums.parse(f"{'a' * 64}  app\n{'b' * 64} *b.bin\n".encode(), "x") == {
        "app": "a" * 64,
        "b.bin": "b" * 64,
    }


@pytest.mark.parametrize("line", [f"{'a' * 63}  app", f"{'A' * 64}  app", f"{'a' * 64}app", f"{'a' * 64}  app\n" * 2])
def test_other_checksums_are_refused(line: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        checksums.parse(line.encode(), "x")
