from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from countersign.nodes.host import HOST, HostNode
from countersign.nodes.steps import File, Folder, Group, Link


@pytest.fixture
def node() -> HostNode:
    return HostNode()


def steps(folder: Path) -> list[Any]:
    source = folder / "source"
    source.write_bytes(b"from a file")
    return [
        Folder(HOST, str(folder / "a" / "b"), 0o700),
        File(HOST, str(folder / "bytes"), b"content", 0o600),
        File(HOST, str(folder / "empty"), b""),
        File(HOST, str(folder / "copied"), source, 0o755),
        Link(HOST, str(folder / "link"), str(folder / "copied")),
        Group(HOST, "both", [File(HOST, str(folder / "one"), b"1"), File(HOST, str(folder / "two"), b"2")]),
    ]


@pytest.mark.parametrize("index", range(6))
def test_a_step_is_needed_once(node, tmp_path, index):
    step = steps(tmp_path)[index]
    before = sorted(tmp_path.iterdir())
    assert step.needed()
    assert sorted(tmp_path.iterdir()) == before, "asking changes nothing"
    step.apply()
    assert not step.needed()


def test_a_file_is_needed_again_when_content_or_mode_differ(node, tmp_path):
    step = File(HOST, str(tmp_path / "file"), b"content", 0o600)
    step.apply()
    (tmp_path / "file").write_bytes(b"CONTENT")
    assert step.needed()
    step.apply()
    (tmp_path / "file").chmod(0o644)
    assert step.needed()


def test_a_link_that_leads_elsewhere_is_turned(node, tmp_path):
    path = tmp_path / "link"
    path.symlink_to("elsewhere")
    step = Link(HOST, str(path), "here")
    assert step.needed()
    step.apply()
    assert path.readlink() == Path("here")


def test_a_group_applies_only_what_is_needed(node, tmp_path):
    kept = tmp_path / "one"
    group = steps(tmp_path)[5]
    kept.write_bytes(b"1")
    kept.chmod(0o644)
    inode = kept.stat().st_ino
    group.apply()
    assert kept.stat().st_ino == inode
    assert (tmp_path / "two").read_bytes() == b"2"
