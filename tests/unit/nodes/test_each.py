from __future__ import annotations

from dataclasses import dataclass

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.each import on_each, side_by_side


@dataclass
class Wants:
    """A step that counts how often it was applied."""

    name: str
    lacking: bool = False
    applied: int = 0

    def needed(self) -> bool:
        return self.lacking

    def apply(self) -> None:
        self.applied += 1


def test_a_step_is_applied_only_where_it_is_needed():
    one, two = Wants("file", lacking=True), Wants("file")
    [step] = on_each({"n1": [one], "n2": [two]})
    assert (step.name, step.needed()) == ("file (2 nodes)", True)
    step.apply()
    assert (one.applied, two.applied) == (1, 0)


def test_nothing_is_needed_when_no_node_lacks_it():
    [step] = on_each({"n1": [Wants("file")]})
    assert (step.name, step.needed()) == ("file", False)


def test_lists_of_different_length_are_no_rows():
    with pytest.raises(ValueError, match="shorter"):
        on_each({"n1": [Wants("a")], "n2": []})


def test_all_are_tried_before_the_first_error_is_raised():
    tried = []

    def work(item: int) -> int:
        tried.append(item)
        if item == 1:
            raise InfrastructureError("one")
        return item

    with pytest.raises(InfrastructureError, match="one"):
        side_by_side(work, [1, 2, 3])
    assert sorted(tried) == [1, 2, 3]
    assert side_by_side(work, [3, 2]) == [3, 2]
