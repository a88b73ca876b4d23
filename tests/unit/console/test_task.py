import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import Context, MockContext
from invoke.exceptions import Exit, UnexpectedExit
from invoke.runners import Result

from countersign.console.errors import CountersignError, InfrastructureError, MissingError, UsageError, VerdictError
from countersign.console.task import task


def ended(error: BaseException, state: Path) -> Exit:
    """Return how a task ends whose body raises ``error``."""

    @task
    def failing(context: Context) -> None:
        raise error

    run: Callable[..., Any] = failing
    with pytest.raises(Exit) as end:
        run(MockContext(Config(overrides={"state": str(state)})))
    return end.value


@pytest.mark.parametrize(
    ("kind", "code"), [(VerdictError, 1), (UsageError, 2), (MissingError, 3), (InfrastructureError, 4)]
)
def test_our_errors_become_one_line_and_their_code(kind: type[CountersignError], code: int, tmp_path: Path) -> None:
    end = ended(kind("got\nx", where="file:3", expected="y", do="write y"), tmp_path)
    assert (end.message, end.code) == ("error: file:3: got x; expected y; write y", code)


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    assert ended(KeyboardInterrupt(), tmp_path).code == 130


def test_the_code_of_a_child_does_not_become_ours(tmp_path: Path) -> None:
    end = ended(UnexpectedExit(Result(command="false", exited=77)), tmp_path)
    assert (end.message, end.code) == ("error: 'false' failed with 77", 4)


def test_an_exit_passes_unchanged(tmp_path: Path) -> None:
    assert ended(Exit("bye", code=9), tmp_path).code == 9


def test_the_unforeseen_leaves_its_traceback_in_a_log(tmp_path: Path) -> None:
    end = ended(ValueError("odd\nthing"), tmp_path)
    assert end.code == 4
    found = re.fullmatch(r"error: unexpected ValueError: odd thing; the traceback is in (\S+)", end.message or "")
    assert found
    assert Path(found[1]).parent == tmp_path / "log"
    assert "Traceback (most recent call last)" in Path(found[1]).read_text()


def test_the_log_goes_elsewhere_when_the_state_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    end = ended(ValueError("odd"), tmp_path / "file")
    log = Path((end.message or "").rpartition(" ")[2])
    assert log.is_file()
    assert tmp_path not in log.parents


def test_options_and_results_pass_through() -> None:
    @task(iterable=["image"], help={"image": "what to name"})
    def named(context: Context, image: list[str], json: bool = False) -> list[str]:
        """Name images."""
        return image

    assert [argument.name for argument in named.get_arguments()] == ["image", "json"]  # type: ignore[attr-defined]
    assert named(MockContext(), image=["a"]) == ["a"]
