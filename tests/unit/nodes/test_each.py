from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.each import on_each, side_by_side


@dataclass
class Wants:
    """A step that remembers where it was applied."""

    name: str
    lacking: set[str]
    applied: list[str] = field(default_factory=list)

    def needed(self, node):
        return node in self.lacking

    def apply(self, node):
        self.applied.append(node)


def test_a_step_is_applied_only_where_it_is_needed():
    one, two = Wants("file", {"n1"}), Wants("file", set())
    [step] = on_each({"n1": [one], "n2": [two]}, {"n1": "n1", "n2": "n2"})  # type: ignore[dict-item]
    assert (step.name, step.needed(None)) == ("file (2 nodes)", True)
    step.apply(None)
    assert (one.applied, two.applied) == (["n1"], [])


def test_nothing_is_needed_when_no_node_lacks_it():
    [step] = on_each({"n1": [Wants("file", set())]}, {"n1": "n1"})  # type: ignore[dict-item]
    assert (step.name, step.needed(None)) == ("file", False)


def test_lists_of_different_length_are_no_rows():
    with pytest.raises(ValueError, match="shorter"):
        on_each({"n1": [Wants("a", set())], "n2": []}, {"n1": "n1", "n2": "n2"})  # type: ignore[dict-item]


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
