from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from countersign.nodes import files
from countersign.nodes.files import Content, Seen, put_all, stats
from countersign.nodes.host import HOST, HostNode
from countersign.nodes.steps import File, Folder, Group, Link


class Counting(HostNode):
    """Counts the commands; every one is a round trip on a node that is far away."""

    ran: list[str]

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "ran", [])

    def run(self, argv, **options):
        self.ran.append(argv[0])
        return super().run(argv, **options)


@pytest.fixture
def node():
    return Counting()


def test_one_command_says_what_lies_at_many_paths(node, tmp_path):
    (tmp_path / "file with spaces\nand a line").write_bytes(b"content")
    (tmp_path / "file with spaces\nand a line").chmod(0o600)
    (tmp_path / "empty").touch(0o644)
    (tmp_path / "folder").mkdir(0o750)
    (tmp_path / "link").symlink_to("some where")
    os.mkfifo(tmp_path / "pipe", 0o600)
    names = ["file with spaces\nand a line", "empty", "folder", "link", "pipe", "absent"]
    found = stats(node, [str(tmp_path / name) for name in names])
    digest = hashlib.sha256(b"content").hexdigest()
    assert {Path(path).name: seen for path, seen in found.items()} == {
        names[0]: Seen("f", 0o600, "", digest),
        "empty": Seen("f", (tmp_path / "empty").stat().st_mode & 0o7777, "", hashlib.sha256().hexdigest()),
        "folder": Seen("d", (tmp_path / "folder").stat().st_mode & 0o7777),
        "link": Seen("l", 0o777, "some where"),
        "pipe": Seen("p", (tmp_path / "pipe").stat().st_mode & 0o7777),
    }
    assert node.ran == ["find"]


def test_no_paths_ask_nothing(node):
    assert stats(node, []) == {}
    assert node.ran == []


def test_more_paths_than_one_command_takes(node, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "AT_ONCE", 2)
    paths = [str(tmp_path / name) for name in "abcde"]
    for path in paths:
        Path(path).write_text(path)
    assert list(stats(node, paths)) == paths
    assert len(node.ran) == 3


def test_a_group_asks_once_for_all_its_paths(node, tmp_path):
    group = Group(
        node,
        "all",
        [
            Folder(HOST, str(tmp_path / "a")),
            *(File(HOST, str(tmp_path / "a" / name), name.encode()) for name in "bcd"),
            Link(HOST, str(tmp_path / "e"), "a"),
        ],
    )
    assert group.needed()
    group.apply()
    node.ran.clear()
    assert not group.needed()
    assert node.ran == ["find"]


def test_a_group_hands_files_over_at_once_to_a_node_that_takes_many(tmp_path):
    taken = []

    class Taking(HostNode):
        def put_all(self, files):
            taken.append([Path(file.path).name for file in files])

    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "b").chmod(0o644)
    parts: list[File | Link] = [
        *(File(HOST, str(tmp_path / name), name.encode()) for name in "abc"),
        Link(HOST, str(tmp_path / "l"), "a"),
    ]
    Group(Taking(), "all", [*parts, File(HOST, str(tmp_path / "z"), b"z")]).apply()
    assert taken == [["a", "c"], ["z"]]
    assert (tmp_path / "l").is_symlink()


def test_put_all_puts_one_by_one_elsewhere(node, tmp_path):
    put_all(node, [Content(b"1", str(tmp_path / "1"), 0o600), Content(b"2", str(tmp_path / "2"), 0o755)])
    assert [(tmp_path / name).read_bytes() for name in "12"] == [b"1", b"2"]
    assert [(tmp_path / name).stat().st_mode & 0o7777 for name in "12"] == [0o600, 0o755]
