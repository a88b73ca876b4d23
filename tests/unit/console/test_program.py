import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoke.exceptions import Exit

from countersign.console import __version__
from countersign.console.config import ROOT
from countersign.console.program import Inv


def inv(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the program as ``./inv`` does, once its environment is there."""
    command = [sys.executable, str(ROOT / "tasks.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def program() -> Inv:
    import tasks

    return Inv(tasks.ns)


def test_tasks_are_listed_from_any_folder(tmp_path: Path) -> None:
    listed = inv("--list", cwd=tmp_path)
    assert listed.returncode == 0
    assert "  tools.list  " in listed.stdout
    assert listed.stderr == ""


def test_listing_loads_nothing_heavy() -> None:
    heavy = [
        "rich",
        "pydantic",
        "cryptography",
        "grpc",
        "urllib3",
        "sigstore",
        "kubernetes",
        "docker",
        "fabric",
        "jinja2",
    ]
    code = f"import sys, tasks; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["no.such"], "No idea what 'no.such' is!"),
        (["tools.list", "--no-such"], "No idea what '--no-such' is!"),
        (["--help", "no.such"], "No idea what 'no.such' is!"),
        (["--list", "nowhere"], "'nowhere' not found"),
        (["--dry", "tools.list"], "--plan"),
        (["--config", "/no/such.yaml", "tools.list"], "/no/such.yaml: no such file"),
    ],
)
def test_a_bad_command_line_is_one_line_and_code_2(
    arguments: list[str], found: str, program: Inv, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        program.run(["inv", *arguments])
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert found in shown


def test_a_configuration_that_is_no_yaml_is_one_line_and_code_2(
    program: Inv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("node: [")
    with pytest.raises(SystemExit) as end:
        program.run(["inv", "--config", str(tmp_path / "bad.yaml"), "tools.list"])
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert "bad.yaml" in shown
    assert shown.count("\n") == 1


def test_ctrl_c_between_tasks_ends_with_130(program: Inv, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("invoke.program.Program.execute", interrupted)
    with pytest.raises(SystemExit) as end:
        program.run(["inv", "tools.list"])
    assert end.value.code == 130


def test_the_version_is_that_of_the_project(program: Inv, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        program.run(["inv", "--version"])
    assert end.value.code in (0, None)
    assert capsys.readouterr().out == f"countersign {__version__}\n"
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_every_task_has_a_line_of_help_an_example_and_few_options() -> None:
    told = describe_tasks()
    for name, about in told.items():
        lines = about["help"].splitlines()
        assert lines, name
        assert len(lines[0]) <= 110, f"{name}: --list shows the first line"
        assert any(line.startswith("Example: ./inv") and name in line for line in lines), name
        assert len(about["options"]) <= 6, name
        assert [option for option, text in about["options"].items() if not text] == [], f"{name}: options without help"
    options = {name: about["options"] for name, about in told.items()}
    assert options["containerd.logs"]["lines"] == "how many lines from the end (default: 40)"
    assert "default: 0" not in options["containerd.setup"]["wave"]
    assert "default" not in options["policy.check"]["json"]


def describe_tasks() -> dict[str, Any]:
    """Return each task's docstring and options, from a fresh process: Invoke empties a task's help as it reads it."""
    code = """
import inspect, json, tasks
print(json.dumps({name: {
    "help": inspect.getdoc(tasks.ns[name]) or "",
    "options": {option.name: option.help or "" for option in tasks.ns[name].get_arguments()},
} for name in tasks.ns.task_names}))
"""
    described = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    tasks: dict[str, Any] = json.loads(described.stdout)
    return tasks


def test_an_exit_of_a_task_keeps_its_code(program: Inv, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise Exit("error: refused", code=1)

    monkeypatch.setattr("invoke.program.Program.execute", refused)
    with pytest.raises(SystemExit) as end:
        program.run(["inv", "tools.list"])
    assert end.value.code == 1
