"""Key files are whole, private, and never replaced by accident; passwords come from where they may."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.keys import password

KEY = keys.generate()


def test_a_pair_is_written_and_read(tmp_path: Path) -> None:
    private, public = keyfiles.write(tmp_path / "new" / "team", KEY, b"pw")
    assert keys.load_private(private, b"pw").public == keys.load_public(public) == KEY.public
    assert (private.name, public.name) == ("team.key", "team.pub")
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.parent.stat().st_mode & 0o777 == 0o700


def test_a_prefix_with_a_dot_keeps_it(tmp_path: Path) -> None:
    assert keyfiles.files(tmp_path / "v1.2")[0].name == "v1.2.key"


@pytest.mark.parametrize("taken", ["team.key", "team.pub"])
def test_what_is_there_is_not_replaced(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UsageError, match=r"a key already.*--force"):
        keyfiles.write(tmp_path / "team", KEY, b"pw")
    assert (tmp_path / taken).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dangling_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "team.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a key already"):
        keyfiles.write(tmp_path / "team", KEY, b"pw")
    assert not (tmp_path / "elsewhere").exists()


def test_force_replaces_both(tmp_path: Path) -> None:
    for name in ("team.key", "team.pub"):
        (tmp_path / name).write_text("older")
    private, public = keyfiles.write(tmp_path / "team", KEY, b"pw", force=True)
    assert keys.load_private(private, b"pw").public == keys.load_public(public) == KEY.public
    assert private.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        keyfiles.write(tmp_path / "file" / "team", KEY, b"pw")


def test_a_password_file_goes_first_and_ends_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"secret\r\nrest\n")
    assert password.choose(tmp_path / "pw", "given", "k") == b"secret"


def test_a_given_password_may_be_empty() -> None:
    assert password.choose(None, "", "k") == b""


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="COSIGN_PASSWORD"):
        password.choose(None, None, "k")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answers", "twice", "expected"), [(["a", "a"], True, b"a"), (["a"], False, b"a")])
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, answers: list[str], twice: bool, expected: bytes) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda _: answers.pop(0))
    assert password.choose(None, None, "k", twice=twice) == expected
    assert answers == []


def test_two_different_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["a", "b"]
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda _: answers.pop(0))
    with pytest.raises(UsageError, match="differ"):
        password.choose(None, None, "k", twice=True)


def test_a_password_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        password.read_file(tmp_path / "nope")
    (tmp_path / "pw").write_bytes(b"x" * 5000)
    with pytest.raises(UsageError, match="longer than 4 KiB"):
        password.read_file(tmp_path / "pw")


def test_a_private_key_that_git_would_commit_is_not_made(tmp_path: Path) -> None:
    keyfiles.check_uncommitted(tmp_path / "free")  # in no work tree
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    with pytest.raises(UsageError, match=r"a\.key: a private key would lie in a git work tree"):
        keyfiles.check_uncommitted(tmp_path / "new" / "a")
    (tmp_path / ".gitignore").write_text("*.key\n")
    keyfiles.check_uncommitted(tmp_path / "new" / "a")
