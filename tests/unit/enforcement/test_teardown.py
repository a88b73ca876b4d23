from __future__ import annotations

from pathlib import Path

import pytest

from containerd.instance import Instance, instance
from countersign.console.config import Settings, record_place, recorded_place
from countersign.console.steps import Changes, StepResult, run_steps
from countersign.enforcement import teardown
from countersign.enforcement.additions import Lab
from countersign.nodes import cgroup
from countersign.runtimes.private import PrivatePlace


def set_up(ours: Instance, error: type[BaseException], *, keep: bool) -> None:
    """Have a set-up fail after its first change."""

    class Failing(PrivatePlace):
        def look(self) -> None:
            pass

        def _set_up(self, changes: Changes, *, plan: bool) -> list[StepResult]:
            changes.begun = True
            (ours.root / "etc").mkdir(parents=True, exist_ok=True)
            (ours.root / "etc" / "containerd.toml").write_text("")
            raise error

    Failing(Settings(state=ours.state), Lab(), ours).setup(keep=keep, plan=False)


@pytest.fixture
def ours(tmp_path: Path, monkeypatch) -> Instance:
    monkeypatch.setattr(cgroup, "hierarchies", list)
    monkeypatch.setattr("countersign.enforcement.teardown.os.geteuid", lambda: 0)
    policy = "countersign.runtimes.place.policy.render"
    monkeypatch.setattr(policy, lambda *_: b"")
    made = instance(tmp_path / "state")
    (made.root / "etc").mkdir(parents=True)
    (made.root / "etc" / "file").write_text("")
    return made


def test_clean_takes_the_folder_and_the_place_and_nothing_else(ours):
    record_place(ours.state, "host")
    other = ours.state / "log"
    other.mkdir()
    assert [each.changed for each in run_steps(teardown.steps(ours))] == [False, False, True, True]
    assert sorted(ours.state.iterdir()) == [other]
    assert [each.changed for each in run_steps(teardown.steps(ours))] == [False] * 4


def test_a_state_folder_is_one_instance_however_it_is_spelled(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert instance(tmp_path / "link") == instance(tmp_path / "x" / ".." / "state")


def test_another_place_is_not_forgotten(ours):
    record_place(ours.state, "kind")
    run_steps(teardown.steps(ours))
    assert recorded_place(ours.state) == "kind"


def test_a_plan_changes_nothing(ours):
    run_steps(teardown.steps(ours), plan=True)
    assert (ours.root / "etc" / "file").exists()


def test_mounts_are_found_the_deepest_first_whatever_their_names(tmp_path, monkeypatch):
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 0:1 / / rw - ext4 d rw\n2 1 0:2 / /s/host/a rw - tmpfs t rw\n"
        "3 2 0:3 / /s/host/a/with\\040blank rw - tmpfs t rw\n4 1 0:4 / /s/hosts rw - tmpfs t rw\n"
    )
    monkeypatch.setattr(teardown, "MOUNTS", table)
    assert teardown._mounts_below(Path("/s/host")) == ["/s/host/a/with blank", "/s/host/a"]


def test_a_failed_set_up_leaves_nothing(ours):
    teardown.remove_folder(ours.root)
    with pytest.raises(KeyboardInterrupt):
        set_up(ours, KeyboardInterrupt, keep=False)
    assert not ours.root.exists()
    kept = [path.name for path in (ours.state / "artifacts").glob("setup-*/*")]
    assert kept == [Path(ours.config).name]


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_there_before_stays_and_so_does_what_is_to_be_kept(ours, keep):
    if keep:
        teardown.remove_folder(ours.root)
    with pytest.raises(ZeroDivisionError):
        set_up(ours, ZeroDivisionError, keep=keep)
    assert (ours.root / "etc").exists()
