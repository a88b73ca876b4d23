"""Versions of containerd: too old, with known holes, or good; each boundary from both sides."""

from __future__ import annotations

import pytest

from countersign.enforcement.versions import holes, parse, too_old


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("containerd github.com/containerd/containerd/v2 2.4.2+unknown", (2, 4, 2)),
        ("containerd github.com/containerd/containerd/v2 v2.1.5 fcd43222d6b07379a4be9786bda52438f0dd16a1", (2, 1, 5)),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", (1, 7, 27)),
        ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4", (1, 7, 24)),
        ("containerd github.com/containerd/containerd/v2 v2.3.2-rc.1 abc", (2, 3, 1)),
        ("something else", None),
    ],
)
def test_a_version_is_found_in_what_the_program_says(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(("version", "old"), [((1, 7, 99), True), ((2, 0, 9), True), ((2, 1, 0), False)])
def test_before_2_1_nothing_can_be_enforced(version, old):
    assert too_old(version) is old


@pytest.mark.parametrize(
    ("version", "mended"),
    [
        ((2, 1, 0), "2.1.9"),
        ((2, 1, 8), "2.1.9"),
        ((2, 1, 9), ""),
        ((2, 2, 0), "2.2.5"),
        ((2, 2, 4), "2.2.5"),
        ((2, 2, 5), ""),
        ((2, 3, 0), "2.3.2"),
        ((2, 3, 1), "2.3.2"),
        ((2, 3, 2), ""),
        ((2, 4, 0), ""),
        ((2, 1, 99), ""),
        ((3, 0, 0), ""),
    ],
)
def test_known_holes_are_named_with_the_version_that_mends_them(version, mended):
    found = holes(version)
    assert bool(found) == bool(mended)
    if mended:
        assert f"(fixed in {mended})" in found
        assert f"containerd {'.'.join(map(str, version))} has known holes" in found
        for number in ("2026-50195", "2026-53488", "2026-53489", "2026-53492", "2026-47262"):
            assert f"CVE-{number}" in found


def test_a_release_candidate_counts_as_the_release_before_it():
    version = parse("containerd v2.2.5-rc.0")
    assert version
    assert holes(version)
