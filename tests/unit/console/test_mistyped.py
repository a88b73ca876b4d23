"""Whatever is mistyped, set wrongly or not to be had ends with one line, its exit code, and no traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from countersign.console import sources
from countersign.console.config import ROOT
from countersign.console.program import Inv

LINES = {
    # what is typed → what the line says
    "-p containerd.clean": "No idea what '-p' is!",
    "containerd.clean -p": "No idea what '-p' is!",
    "--pty containerd.clean": "No idea what '--pty' is!",
    "-e containerd.clean": "No idea what '-e' is!",
    "-w containerd.clean": "No idea what '-w' is!",
    "-R containerd.clean": "give --plan to the task",
    "containerd.clean --dry": "give --plan to the task",
    "-D 1 --list": "No idea what '-D' is!",
    "-T x tools.list": "No idea what '-T' is!",
    "-d tools.list": "No idea what '-d' is!",
    "--hide both tools.list": "No idea what '--hide' is!",
    "--list-format nonsense --list": "No idea what '--list-format' is!",
    "-j tools.list": "No idea what '-j' is!",
    "tools.list -j": "No idea what '-j' is!",
    "--print-completion-script nosh": "nosh",
    "containerd.logs --lines x": "--lines: got 'x'; expected a number",
    "containerd.logs --lines=1.5": "--lines: got '1.5'; expected a number",
    "containerd.logs --lines=1e3": "--lines: got '1e3'; expected a number",
    "containerd.logs --lines ٣": "--lines: got '٣'; expected a number",
    "containerd.logs --lines 99999999999999999999": "--lines: got",
    "bench.start --rounds many": "--rounds: got 'many'; expected a number",
    "bench.start --rounds 0": "--rounds: got 0; expected 1 or more",
    "bench.kind --at-once -3": "--at-once: got -3; expected 1 or more",
    "containerd.logs --lines": "--lines: expected a value",
    "containerd.logs --on --lines 3": "--on: expected a value",
    "containerd.status --on=": "--on: got an empty value",
    "policy.check --policy=": "--policy: got an empty value",
    "tools.install --name=": "--name: got an empty value",
    "containerd.status --on host --on kind": "--on: given twice",
    "containerd.status --on=host --on=elsewhere": "--on: given twice",
    "containerd.statsu": "Did you mean containerd.status?",
    "containerd.setup_vm": "Did you mean containerd.setup-vm?",
    "containerd": "see ./inv --list containerd",
    "zzz": "./inv --list shows all tasks",
    "containerd.setup --paln": "did you mean --plan?",
    "policy.check --polcy x": "did you mean --policy?",
    "--lst": "did you mean --list?",
    "--help containerd.statsu": "Did you mean containerd.status?",
    "--list containrd": "did you mean containerd?",
    "containerd.setup --plan=yes": "--plan: got 'yes'; expected no value",
    "policy.check policy.yaml": "No idea what 'policy.yaml' is! Tasks take options alone: --OPTION policy.yaml",
    "signing.verify registry.example/app:v1": "Tasks take options alone",
    "containerd.status pyproject.toml": "Tasks take options alone",
    "policy.render --engine kyvern": "did you mean kyverno?",
    "tools.install --name cosgn": "did you mean cosign?",
    "test --part unti": "did you mean unit?",
    "all.e2e --on hosts": "--on: got 'hosts'; expected host, kind, vagrant, crio",
    "signing.sign --image 127.0.0.1:1/x --identity=/no/such": "/no/such: the token cannot be read",
    "trust.update --file invoke.yaml --out /tmp/x.json": "not JSON; expected a trusted_root.json",
    "tools.install --name nosuch": "nosuch",
    "containerd.status --on nowhere": "got 'nowhere'",
    "containerd.status --on ssh://": "ssh://",
    "policy.check --policy /no/such": "No such file",
    "policy.check --policy /": "Is a directory",
    "policy.render --engine nosuch": "--engine: got 'nosuch'",
    "policy.render --out /no/such/folder/x": "No such file",
    "policy.explain": "expected --image",
    "signing.tree --image A": "is not an image reference",
    "signing.sign --image x --key /no/such": "/no/such",
    "--config /no/such.yaml tools.list": "no such file",
    "--config= tools.list": "no such file",
    "--config / tools.list": "no such file",
    "test --part nosuch": "nosuch",
}
SETTINGS = {
    # the content of --config → what the line says
    "kind: 5": "kind: got 5; expected a mapping",
    "kind:": "kind: is empty",
    "registry: [a]": "registry: got ['a']; expected a mapping",
    "vagrant: text": "vagrant: got 'text'; expected a mapping",
    "node: [host]": "node: got ['host']; expected one value",
    "node: {a: b}": "node: got {'a': 'b'}; expected one value",
    "node: 5": "node: got 5; expected text",
    "policy: true": "policy: got True; expected a path",
    "state: 5": "state: got 5; expected a path",
    'policy: "a\\0b"': "expected a path",
    "offline: 7": "offline: got 7; expected yes or no",
    "kind: {workers: many}": "kind.workers: got 'many'",
    "kind: {workers: 1.5}": "kind.workers: got '1.5'",
    "kind: {workers: -1}": "kind.workers: got '-1'",
    "kind: {workers: [1]}": "kind.workers: got [1]",
    "kind: {cluster: 7}": "kind.cluster: got 7; expected text",
    "kind: {wokers: 1}": "did you mean kind.workers?",
    "polcy: x": "did you mean policy?",
    "Policy: x": "did you mean policy?",
    "crio: {engin: strict}": "did you mean crio.engine?",
    "crio: {engine: strikt}": "crio.engine: got 'strikt'",
    "vagrant: {memory: lots}": "vagrant.memory: got 'lots'",
    "registry: {allow-http: yes}": "did you mean registry.allow_http?",
    "zzz: 1": "nothing is called zzz",
    "1: 2": "nothing is called 1",
    "run: {echo: true}": "nothing is called run",
    "- a": "expected a mapping of keys",
    "text": "expected a mapping of keys",
    "node: [": "configuration",
    "a: 1\n a: 2": "configuration",
    "\x00": "configuration",
}
VARIABLES = {
    "INVOKE_NOPE=1": "nothing is called INVOKE_NOPE",
    "INVOKE_POLCY=x": "did you mean INVOKE_POLICY?",
    "INVOKE_KIND_WORKER=2": "did you mean INVOKE_KIND_WORKERS?",
    "INVOKE_KIND=5": "nothing is called INVOKE_KIND",
    "INVOKE_kind_workers=5": "did you mean INVOKE_KIND_WORKERS?",
    "INVOKE_RUN_ECHO=1": "nothing is called INVOKE_RUN_ECHO",
    "INVOKE_KIND_WORKERS=x": "kind.workers: got 'x'",
    "INVOKE_OFFLINE=perhaps": "offline: got 'perhaps'",
    "INVOKE_RUNTIME_CONFIG=/no/such": "no such file",
    "INVOKE_RUNTIME_CONFIG=": "no such file",
    "INVOKE_STATE=~nobody-such/x": "Could not determine home directory",
}


@pytest.fixture(scope="module")
def program() -> Inv:
    import tasks

    return Inv(tasks.ns)


@pytest.fixture(autouse=True)
def nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("INVOKE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INVOKE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """A policy without keys."""
    path = tmp_path / "policy.yaml"
    path.write_text("apiVersion: countersign/v1\ndefault: reject\nscopes: {registry.example/app: accept}\n")
    return str(path)


def refused(program: Inv, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line with which a command line is refused with code 2."""
    with pytest.raises(SystemExit) as end:
        program.run(["inv", *arguments])
    shown = capsys.readouterr()
    assert end.value.code == 2, shown
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(("typed", "found"), LINES.items(), ids=LINES)
def test_a_mistyped_line_is_refused(typed: str, found: str, program: Inv, capsys: pytest.CaptureFixture[str]) -> None:
    assert found in refused(program, typed.split(), capsys)


@pytest.mark.parametrize(("content", "found"), SETTINGS.items(), ids=map(repr, SETTINGS))
def test_a_wrong_setting_is_refused_wherever_it_stands(
    content: str, found: str, program: Inv, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    if "state" in content:
        os.environ.pop("INVOKE_STATE")
    assert found in refused(program, ["--config", str(file), "tools.list"], capsys)


@pytest.mark.parametrize(("setting", "found"), VARIABLES.items(), ids=VARIABLES)
def test_a_wrong_variable_is_refused(
    setting: str, found: str, program: Inv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(*setting.split("=", 1))
    assert found in refused(program, ["tools.list"], capsys)


def test_a_right_configuration_is_taken_from_each_source(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yml"):
        (tmp_path / name).write_text("kind: {workers: 2}\nnode: host\nrequire: all\n")
    (tmp_path / "three.json").write_text('{"kind": {"workers": "2"}, "sudo": {"password": "x"}}')
    (tmp_path / "empty.yaml").write_text("")
    for path in tmp_path.glob("*.*"):
        config = sources.Sources(runtime_path=path)
        config.load_runtime()
        if path.stem != "empty":
            assert str(config["kind"]["workers"]) == "2"


@pytest.mark.parametrize(("content", "code"), [("polcy: x", 2), ("another_projects_key: 1", 0)])
def test_the_users_own_file_may_have_keys_of_other_projects(content: str, code: int, tmp_path: Path) -> None:
    (tmp_path / ".invoke.yaml").write_text(content)
    ended = inv("--list", env={"HOME": str(tmp_path)})
    assert (ended.returncode, "did you mean policy?" in ended.stderr) == (code, code == 2)


def test_no_task_has_a_short_flag_and_the_programs_have_one_meaning_each(program: Inv) -> None:
    import tasks

    options = {name: tasks.ns[name].get_arguments() for name in tasks.ns.task_names}
    assert [(name, each.names) for name, own in options.items() for each in own if len(each.names) > 1] == []
    assert sorted(flag for each in program.core_args() for flag in each.names if len(flag) == 1) == ["V", "f", "h", "l"]


def inv(*arguments: str, env: dict[str, str] | None = None, **more: object) -> "subprocess.CompletedProcess[str]":
    """Run the program as ``./inv`` does, once its environment is there."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, str(ROOT / "tasks.py"), *arguments],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("INVOKE_")}, **(env or {})},
        text=True,
        check=False,
        timeout=120,
        **{"capture_output": True, "stdin": subprocess.DEVNULL, **more},
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["containerd.status", "--on", "nowhere"], 2),
        (["containerd.statsu"], 2),
        (["policy.explain"], 2),
        (["policy.check", "--policy", "/no/such"], 2),
        (["signing.tree", "--image", "127.0.0.1:1/x"], 4),
        (["tools.list", "--nope"], 2),
        (["tools.list", "--json=yes"], 2),
        (["crio.status", "--on", "nowhere,elsewhere"], 2),
    ],
)
def test_json_gives_one_document_also_when_the_answer_is_no(arguments: list[str], code: int, tmp_path: Path) -> None:
    asking = () if any("--json" in each for each in arguments) else ("--json",)
    ended = inv(*arguments, *asking, env={"INVOKE_STATE": str(tmp_path)})
    document = json.loads(ended.stdout)
    assert ended.returncode == code
    assert document["version"].startswith("countersign.")
    if document["version"] == "countersign.error/v1":
        assert document["exitCode"] == code
        assert ended.stderr == f"error: {document['message']}\n"


def test_two_tasks_give_one_document(tmp_path: Path) -> None:
    ended = inv("tools.list", "--json", "policy.check", "--policy", "/no/such", "--json")
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["version"]) == (2, "countersign.documents/v1")
    assert len(document["documents"]) == 2


def test_a_state_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = inv("report.build", env={"INVOKE_STATE": str(tmp_path / "file" / "below")})
    assert (ended.returncode, ended.stderr.count("\n")) in {(3, 1), (2, 1), (4, 1)}
    ended = inv("containerd.logs", env={"INVOKE_STATE": str(tmp_path / "file")})
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "is not a folder" in ended.stderr


def test_no_home_folder_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys, pwd; sys.argv = ['inv', 'tools.list']\n"
        "def no_user(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = no_user\n"
        "import tasks; from countersign.console.program import main; main(tasks.ns)"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME", "INVOKE_CACHE")}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "set HOME" in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["--list"], ["--help"], ["tools.list", "--json"], ["policy.render", "--policy", "POLICY"]]
)
@pytest.mark.parametrize("stdout", ["gone", "full", "closed"])
def test_a_stdout_that_takes_nothing_is_no_traceback(arguments: list[str], stdout: str, policy: str) -> None:
    arguments = [policy if each == "POLICY" else each for each in arguments]
    if stdout == "gone":
        read, write = os.pipe()
        os.close(read)
        ended = inv(*arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
    elif stdout == "full":
        with Path("/dev/full").open("w") as full:
            ended = inv(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    else:
        shell = ["sh", "-c", 'exec "$0" "$@" >&-', sys.executable, str(ROOT / "tasks.py"), *arguments]
        ended = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
    assert ended.returncode in (0, 4)  # 0: `--list` to nobody
    assert ended.returncode == 4 or stdout == "closed"
    if stdout == "full":
        assert "No space left on device" in ended.stderr


def test_an_output_that_is_no_utf_8_shows_escapes(policy: str) -> None:
    renamed = Path(policy).with_name("größe.yaml")
    renamed.write_bytes(Path(policy).read_bytes())
    ended = inv("policy.check", "--policy", str(renamed), "--json", env={"PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 1)
    assert r"gr\xf6\xdfe.yaml" in ended.stderr


@pytest.mark.parametrize("target", ["no room", "no room, as the cause of another"])
def test_a_full_disk_is_named_and_not_unforeseen(target: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the kernel answers EFBIG, the file of the task ENOSPC."""
    from invoke.config import Config
    from invoke.context import MockContext
    from invoke.exceptions import Exit

    from countersign.console.task import task

    @task
    def writes(context: object) -> None:
        """Write."""
        try:
            with Path("/dev/full").open("w") as file:
                file.write("x")
        except OSError as error:
            if target == "no room":
                raise
            raise ValueError("could not be kept") from error

    with pytest.raises(Exit) as end:
        writes(MockContext(Config(overrides={"state": str(tmp_path)})))
    assert end.value.code == 4
    assert "No space left on device" in str(end.value.message)
    assert not (tmp_path / "log").exists()


def test_ctrl_c_while_the_tasks_are_read_is_silent(tmp_path: Path) -> None:
    waits = tmp_path / "fifo"
    os.mkfifo(waits)
    (tmp_path / "invoke.py").write_text(f"open({str(waits)!r}).read()\n")
    command = [sys.executable, str(ROOT / "tasks.py"), "--list"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    ) as running:
        writer = os.open(waits, os.O_WRONLY)
        running.send_signal(signal.SIGINT)
        _, shown = running.communicate(timeout=60)
        os.close(writer)
    assert (running.returncode, shown) == (-signal.SIGINT, "")


def test_ctrl_c_in_the_middle_of_a_task_is_one_line(tmp_path: Path) -> None:
    waits = tmp_path / "policy.yaml"
    os.mkfifo(waits)
    command = [sys.executable, str(ROOT / "tasks.py"), "policy.check", "--policy", str(waits)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        writer = os.open(waits, os.O_WRONLY)  # returns once the task has opened the other end
        running.send_signal(signal.SIGINT)
        _, shown = running.communicate(timeout=60)
        os.close(writer)
    assert (running.returncode, shown) == (130, "interrupted\n")
