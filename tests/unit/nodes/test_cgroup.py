from __future__ import annotations

from pathlib import Path

import pytest

from countersign.nodes import cgroup

V1 = (
    "25 1 0:1 / {0}/unified rw - cgroup2 cgroup2 rw\n"
    "26 1 0:2 / {0}/memory rw - cgroup cgroup rw,memory\n"
    "27 1 0:3 / {0}/pids rw - cgroup cgroup rw,pids\n"
    "28 1 0:3 / {0}/again rw - cgroup cgroup rw,pids\n"
    "29 1 0:4 / {0}/proc rw - proc proc rw\n"
)
NO_V2 = "".join(V1.splitlines(keepends=True)[1:])


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch):
    def mount(table: str) -> Path:
        for name in ("unified", "memory", "pids", "again", "proc"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "mountinfo").write_text(table.format(tmp_path))
        monkeypatch.setattr(cgroup, "MOUNTS", tmp_path / "mountinfo")
        return tmp_path

    return mount


def test_every_hierarchy_is_found_once_and_version_2_first(mounted):
    folder = mounted(V1)
    assert cgroup.hierarchies() == [folder / "unified", folder / "memory", folder / "pids"]


@pytest.mark.parametrize(("table", "chosen"), [(V1, "unified"), (NO_V2, "pids")])
def test_the_hierarchy_to_be_in_limits_nothing(mounted, table, chosen):
    folder = mounted(table)
    cgroup.join("it")
    assert [path.parent.parent.parent.name for path in folder.glob("*/it/daemons/cgroup.procs")] == [chosen]


def test_a_cgroup_that_is_not_there_is_already_destroyed(mounted):
    mounted(V1)
    assert not cgroup.exists("it")
    cgroup.destroy("it")
    assert cgroup.members("it") == set()
