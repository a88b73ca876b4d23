"""The reviewed differences: what stands there is excused once, for its engine and verdict alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from lab.trials import differences
from lab.trials.model import load as load_matrix

ENTRY = "- {image: a, engine: kyverno, says: allow, decides: pull, reason: because}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "differences.yaml"
    path.write_text(text)
    return path


def test_every_image_of_the_real_list_is_one_of_the_matrix() -> None:
    images = {case.image for case in load_matrix()}
    assert {entry.image for entry in differences.load().entries} <= images


def test_an_entry_excuses_its_verdict_and_engine_alone(tmp_path: Path) -> None:
    found = differences.load(written(tmp_path, ENTRY))
    assert found.excuse("a", "kyverno", allow=False) is None
    assert found.excuse("a", "crio", allow=True) is None
    assert found.excuse("b", "kyverno", allow=True) is None
    assert [entry.image for entry in found.unused("kyverno")] == ["a"]
    excused = found.excuse("a", "kyverno", allow=True)
    assert excused is not None
    assert (excused.decides, excused.reason) == ("pull", "because")
    assert found.unused("kyverno") == []


def test_an_entry_of_several_images_is_one_of_each(tmp_path: Path) -> None:
    found = differences.load(written(tmp_path, ENTRY.replace("image: a", "image: [a, b]")))
    assert found.excuse("b", "kyverno", allow=True) is not None
    assert [entry.image for entry in found.unused("kyverno")] == ["a"]


def test_entries_of_other_engines_are_not_missed(tmp_path: Path) -> None:
    assert differences.load(written(tmp_path, ENTRY)).unused("crio") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENTRY * 2, "a is a duplicate for kyverno"),
        (ENTRY.replace("kyverno", "docker"), "'kyverno', 'gatekeeper' or 'crio'"),
        (ENTRY.replace(", reason: because", ""), "reason Field required"),
        (ENTRY.replace("because", "''"), "at least 1 character"),
        (ENTRY.replace("image: a", "image: a, sneaky: 1"), "Extra inputs are not permitted"),
        ("- {", "line 1"),
    ],
)
def test_a_list_of_another_form_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        differences.load(written(tmp_path, text))
    assert reason in str(refused.value)


def test_an_empty_list_excuses_nothing(tmp_path: Path) -> None:
    assert differences.load(written(tmp_path, "# none\n")).excuse("a", "kyverno", allow=True) is None
