"""containerd's version as set-up needs it; which versions have known holes, the gate's doctor knows."""

from __future__ import annotations

import sys

import pytest

from containerd.survey import OLDEST, parse
from countersign.console.config import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("containerd github.com/containerd/containerd/v2 2.4.2+unknown", (2, 4, 2)),
        ("containerd github.com/containerd/containerd/v2 v2.1.5 fcd43222d6b07379a4be9786bda52438f0dd16a1", (2, 1, 5)),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", (1, 7, 27)),
        ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4", (1, 7, 24)),
        ("containerd github.com/containerd/containerd/v2 v2.3.2-rc.1 abc", (2, 3, 1)),
        ("containerd v2.2.5-rc.0", (2, 2, 4)),
        ("something else", None),
    ],
)
def test_a_version_is_found_in_what_the_program_says(text, expected):
    assert parse(text) == expected


def test_set_up_and_doctor_refuse_the_same_versions():
    known = tomllib.loads((ROOT / "gate" / "internal" / "doctor" / "containerd-versions.toml").read_text())
    assert known["oldest"] == ".".join(map(str, OLDEST))
