from dataclasses import dataclass

import pytest

from countersign.console.errors import InfrastructureError
from countersign.console.steps import Changes, NotThereYet, Stage, StepResult, run_steps


@dataclass(frozen=True)
class Put:
    """Puts a word into the set that stands for a node."""

    node: set[str]
    name: str
    error: Exception | None = None

    def needed(self) -> bool:
        if self.error:
            raise self.error
        return self.name not in self.node

    def apply(self) -> None:
        self.node.add(self.name)


def outline(results: list[StepResult]) -> list[tuple[str, bool]]:
    return [(result.name, result.changed) for result in results]


def test_what_is_needed_is_applied_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    node = {"a"}
    assert outline(run_steps([Put(node, "a"), Put(node, "b")])) == [("a", False), ("b", True)]
    assert node == {"a", "b"}
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "1 changed"
    assert shown.out == ""


def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    node: set[str] = set()
    run_steps([Put(node, "a")])
    assert outline(run_steps([Put(node, "a")])) == [("a", False)]
    assert capsys.readouterr().err.splitlines()[-1] == "0 changed"


def test_a_plan_lists_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    node = {"a"}
    assert outline(run_steps([Put(node, "a"), Put(node, "b")], plan=True)) == [("a", False), ("b", True)]
    assert node == {"a"}
    assert capsys.readouterr().err.splitlines() == ["holds: a", "would: b", "plan: 1 to change, nothing was"]


def test_a_plan_shows_a_node_that_is_not_there_yet(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Put(set(), "a", NotThereYet("the VM does not exist"))]
    assert outline(run_steps(steps, plan=True)) == [("a", True)]
    assert "would: a (the VM does not exist)" in capsys.readouterr().err


def test_a_run_fails_on_a_node_that_is_not_there_and_goes_no_further() -> None:
    node: set[str] = set()
    with pytest.raises(NotThereYet):
        run_steps([Put(node, "a", NotThereYet("gone")), Put(node, "b")])
    assert node == set()


def test_a_plan_hides_no_other_error() -> None:
    with pytest.raises(InfrastructureError, match="broken"):
        run_steps([Put(set(), "a", InfrastructureError("broken"))], plan=True)


def two_stages(node: set[str], looked: list[str]) -> list[Stage]:
    """Return stages of which the second can be told once the first has made its node."""

    def second() -> list[Put]:
        looked.append("second")
        if "made" not in node:
            raise NotThereYet("there is no node yet")
        return [Put(node, "policy")]

    return [Stage(lambda: [Put(node, "made")]), Stage(second, announced=("gate", "policy"))]


def test_a_stage_is_looked_at_when_those_before_it_were_applied() -> None:
    node: set[str] = set()
    looked: list[str] = []
    changes = Changes()
    stages = two_stages(node, looked)
    assert looked == [], "a list is built without asking anything"
    assert changes.through(stages)
    assert outline(changes.end()) == [("made", True), ("policy", True)]
    assert node == {"made", "policy"}


def test_a_plan_ends_at_the_stage_that_cannot_be_told_yet(capsys: pytest.CaptureFixture[str]) -> None:
    node: set[str] = set()
    changes = Changes(plan=True)
    assert not changes.through(two_stages(node, []))
    assert outline(changes.end()) == [("made", True), ("gate", True), ("policy", True)]
    assert node == set()
    assert capsys.readouterr().err.splitlines() == [
        "would: made",
        "would: gate (there is no node yet)",
        "would: policy (there is no node yet)",
        "plan: 3 to change, nothing was",
    ]


def test_a_stage_that_cannot_be_told_fails_what_is_no_plan() -> None:
    stages = [Stage(two_stages(set(), [])[1].look, announced=("gate",))]
    with pytest.raises(NotThereYet, match="no node yet"):
        Changes().through(stages)
