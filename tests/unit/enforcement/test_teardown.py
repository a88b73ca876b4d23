from __future__ import annotations

from pathlib import Path

import pytest

from containerd.instance import Instance, instance
from containerd.lifecycle import removed_on_failure
from countersign.console.config import record_place, recorded_place
from countersign.console.steps import run_steps
from countersign.enforcement import teardown
from countersign.nodes import cgroup


def fail(folder: Path, error: type[BaseException]) -> None:
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    (folder / "etc" / "containerd.toml").write_text("")
    raise error


@pytest.fixture
def ours(tmp_path: Path, monkeypatch) -> Instance:
    monkeypatch.setattr(cgroup, "hierarchies", list)
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
    teardown.FilesRemoved(ours).apply()
    with pytest.raises(KeyboardInterrupt), removed_on_failure(ours, keep=False):
        fail(ours.root, KeyboardInterrupt)
    assert not ours.root.exists()
    kept = [path.name for path in (ours.state / "artifacts").glob("setup-*/*")]
    assert kept == [Path(ours.config).name]


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_there_before_stays_and_so_does_what_is_to_be_kept(ours, keep):
    if keep:
        teardown.FilesRemoved(ours).apply()
    with pytest.raises(ZeroDivisionError), removed_on_failure(ours, keep=keep):
        fail(ours.root, ZeroDivisionError)
    assert (ours.root / "etc").exists()
