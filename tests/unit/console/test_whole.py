"""Files that a user names: whole or not at all, and nothing but a file is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from countersign.console import whole


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"former")
    whole.write(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_goes_on_leading_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    whole.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out").read_bytes() == b"new"


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    try:
        whole.write(path, b"new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert path.is_fifo()


def test_a_full_device_stays_a_device_and_is_told() -> None:
    with pytest.raises(OSError, match="No space left"):
        whole.write(Path("/dev/full"), b"new")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("place", ["folder", "nowhere/out"])
def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"Is a directory|No such file"):
        whole.write(tmp_path / place, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
