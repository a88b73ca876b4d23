"""The shell part of ./inv, with a Python and a package manager that only write down what they are told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from countersign.console.config import ROOT

PYTHON = """#!/bin/sh
echo "python $*" >>"$CALLS"
case "$*" in
*"import ensurepip, venv"*) [ ! -e "$MACHINE/no-venv" ] ;;
*"python%d.%d-venv"*) echo python3.11-venv ;;
*version_info*) [ ! -e "$MACHINE/old-python" ] ;;
*fcntl*) exec "$REAL_PYTHON" "$@" ;;
"-m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-m pip "*)
    sleep 0.2
    if [ -e "$MACHINE/no-network" ]; then echo "ERROR: Connection refused"; exit 2; fi
    if [ -e "$MACHINE/full" ]; then echo "OSError: [Errno 28] No space left on device"; echo "Traceback"; exit 1; fi
    if [ -e "$MACHINE/slow" ]; then for each in $(cat "$MACHINE/slow"); do sleep 1; done; fi ;;
esac
"""
APT = """#!/bin/sh
echo "apt-get $*" >>"$CALLS"
rm -f "$MACHINE/no-venv"
"""
IDENTITY = """#!/bin/sh
cat "$MACHINE/uid"
"""


class Machine:
    """A repository with nothing but ``inv`` and its lock, on a machine of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "a repository"
        self.repository.mkdir()
        shutil.copy(ROOT / "inv", self.repository)
        (self.repository / "requirements.lock").write_text("one==1\n")
        (folder / "certificates").write_text("")
        (folder / "uid").write_text("0")
        (folder / "bin").mkdir()
        for name, text in {"python3": PYTHON, "apt-get": APT, "id": IDENTITY}.items():
            self._program(name, text)
        for name in (
            "sh",
            "dirname",
            "readlink",
            "cat",
            "cmp",
            "rm",
            "mkdir",
            "cp",
            "sleep",
            "mktemp",
            "grep",
            "tail",
            "sed",
        ):
            (folder / "bin" / name).symlink_to(shutil.which(name) or name)

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.folder / "bin"),
            "CALLS": str(self.folder / "calls"),
            "MACHINE": str(self.folder),
            "REAL_PYTHON": sys.executable,
            "SSL_CERT_FILE": str(self.folder / "certificates"),
        }

    def lacks(self, what: str) -> None:
        (self.folder / what).write_text("")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [str(self.repository / "inv"), *arguments]
        return subprocess.Popen(
            command, env=self.environment, cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def inv(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and what was written to stderr."""
        process = self.start(*arguments)
        _, error = process.communicate(timeout=60)
        return process.returncode, error

    def calls(self, beginning: str) -> list[str]:
        """Return the stand-ins' calls that begin so."""
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [line for line in lines if line.startswith(beginning)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_run_makes_the_environment_with_hashes_and_runs_the_program(machine: Machine) -> None:
    code, said = machine.inv("tools.list", "--json")
    assert code == 0
    assert said.startswith("inv: making .venv")
    (pip,) = machine.calls("python -m pip install")
    assert "--require-hashes" in pip
    assert "--no-deps" in pip  # the lock is whole: what an index has newer must not be asked
    assert machine.calls(f"python {machine.repository}/tasks.py") == [
        f"python {machine.repository}/tasks.py tools.list --json"
    ]


def test_a_later_run_only_runs_the_program(machine: Machine) -> None:
    machine.inv("--list")
    before = len(machine.calls("python"))
    assert machine.inv("--list") == (0, "")
    assert len(machine.calls("python")) == before + 1


def test_another_lock_or_another_place_makes_it_anew(machine: Machine) -> None:
    machine.inv("--list")
    (machine.repository / "requirements.lock").write_text("one==2\n")
    machine.inv("--list")
    assert len(machine.calls("python -m pip")) == 2
    machine.repository = machine.repository.rename(machine.folder / "moved")
    machine.inv("--list")
    assert len(machine.calls("python -m pip")) == 3


def test_an_environment_that_was_not_finished_is_made_anew(machine: Machine) -> None:
    machine.lacks("no-network")
    code, said = machine.inv("--list")
    assert code == 4
    assert said.splitlines()[-1] == "error: filling .venv failed: Connection refused"
    assert machine.calls(f"python {machine.repository}/tasks.py") == []
    (machine.folder / "no-network").unlink()
    assert machine.inv("--list")[0] == 0
    assert len(machine.calls("python -m venv")) == 2


def test_a_full_disk_is_said_in_the_last_line(machine: Machine) -> None:
    machine.lacks("full")
    code, said = machine.inv("--list")
    assert (code, said.splitlines()[-1]) == (4, "error: filling .venv failed: No space left on device")


def test_a_slow_making_gives_a_sign_of_life(machine: Machine) -> None:
    (machine.folder / "slow").write_text("x " * 100)
    sleep = machine.folder / "bin" / "sleep"
    real = sleep.readlink()
    sleep.unlink()
    sleep.write_text(f"#!/bin/sh\nexec {real} 0.02\n")  # time goes by faster
    sleep.chmod(0o755)
    code, said = machine.inv("--list")
    assert code == 0
    assert "inv: filling .venv, 10s\n" in said


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_another_users_environment_is_one_line(machine: Machine) -> None:
    machine.inv("--list")
    (machine.folder / "uid").write_text("65534")
    (machine.repository / ".venv" / "bin" / "python").unlink()
    for path in machine.folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)
    for above in (machine.folder, *machine.folder.parents):
        if above.owner() == "root" and above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    before = sorted(machine.repository.rglob("*"))
    ended = subprocess.run(
        [str(machine.repository / "inv"), "--list"],
        env=machine.environment,
        cwd="/",
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)
    assert ".venv is another user's" in ended.stderr
    assert sorted(machine.repository.rglob("*")) == before


def test_runs_at_the_same_time_make_one_environment(machine: Machine) -> None:
    runs = [machine.start("--list") for _ in range(3)]
    outcomes = [(run.communicate(timeout=60)[1], run.returncode) for run in runs]
    assert [code for _, code in outcomes] == [0, 0, 0]
    assert len(machine.calls("python -m pip")) == 1
    assert sum("waiting for it" in said for said, _ in outcomes) == 2


def test_root_gets_what_the_system_lacks_and_is_told_first(machine: Machine) -> None:
    machine.lacks("no-venv")
    code, said = machine.inv("--list")
    assert code == 0
    assert said.index("this machine lacks python3.11-venv; running: apt-get update") < said.index("making .venv")
    assert machine.calls("apt-get") == [
        "apt-get update",
        "apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends python3.11-venv",
    ]


def test_others_get_the_command_and_code_3(machine: Machine) -> None:
    machine.lacks("no-venv")
    (machine.folder / "uid").write_text("1000")
    code, said = machine.inv("--list")
    assert code == 3
    assert said == (
        "error: this machine lacks python3.11-venv; run as root: "
        "apt-get update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends python3.11-venv\n"
    )
    assert machine.calls("apt-get") == []


def test_a_python_that_stays_too_old_is_code_3(machine: Machine) -> None:
    machine.lacks("old-python")
    code, said = machine.inv("--list")
    assert code == 3
    assert "still lacks python3 python3-venv (Python 3.10 to 3.13 is needed)" in said


def test_arguments_arrive_as_they_were(machine: Machine) -> None:
    machine.inv("a b", "*", "")
    assert machine.calls(f"python {machine.repository}/tasks.py") == [f"python {machine.repository}/tasks.py a b * "]
