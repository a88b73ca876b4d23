"""The security guards of gate and set-up, taken out one by one: the test that holds each must then fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import UsageError
from countersign.tools.recipes import read_table, recipes
from countersign.tools.resolver import tool
from countersign.tools.toolchain import go_environment, scratch
from tests.failures import CheckFailed

TABLE = Path(__file__).with_name("guards.toml")
TEST_SECONDS = 300
_FUNCTION = re.compile(r"^func (?:\([^)]*\) )?(\w+)(?:[^\n]*\}$|.*?^\})", re.MULTILINE | re.DOTALL)
_REFUSES = re.compile(r"\bcode\.Refuse\(|\binvalid\(|\bmalformed\(|\bunsupported\(")
_ASSERTED = re.compile(r"^E +(AssertionError|assert |Failed: )", re.MULTILINE)


@dataclass(frozen=True)
class Guard:
    """One guard, as ``guards.toml`` describes it.

    Attributes:
        name: what it keeps from happening.
        file: where it stands, relative to the repository.
        line: its text, which stands there once.
        broken: what is put in its place; it compiles, and guards nothing.
        test: what must fail then, by its own assertion: a Go test (``TestX`` or ``TestX/a case``) or a pytest id.
        twin: what must still pass.
        package: of the Go tests, where that is not the file's folder.
    """

    name: str
    file: str
    line: str
    broken: str
    test: str
    twin: str
    package: str = ""

    def text(self) -> str:
        """Return the file's text without the guard.

        Raises:
            CheckFailed: the line does not stand there exactly once.
        """
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.line) != 1:
            raise CheckFailed(
                f"its line stands there {text.count(self.line)} times: {self.line!r}",
                where=f"{TABLE.name}: {self.name}: {self.file}",
                expected="once",
                do="correct the row",
            )
        return text.replace(self.line, self.broken)


def guards() -> list[Guard]:
    """Return the rows of ``guards.toml``, in order."""
    return [Guard(**row) for row in read_table(TABLE)["guard"]]


def needless() -> dict[str, str]:
    """Return why a function that refuses has no row: by ``file: function``, from the table's ``none``."""
    return {f"gate/{site}": row["why"] for row in read_table(TABLE)["none"] for site in row["sites"]}


def chosen(count: str, commit: int) -> list[Guard]:
    """Return the guards of one run: ``all``, or so many in a row, from a place that the commit gives.

    Raises:
        UsageError: the count is neither ``all`` nor a number.
    """
    rows = guards()
    if count == "all":
        return rows
    if not count.isdecimal():
        raise UsageError(f"got {count!r}", where="tests.guards", expected="a number or all")
    first = commit % len(rows)
    return (rows[first:] + rows[:first])[: int(count)]


def check(settings: Settings, count: str, commit: int) -> None:
    """Break the chosen guards one by one, and name those that no test holds.

    Raises:
        CheckFailed: breaking some changes no test's outcome, or more than that of its own test.
    """
    reasons = needless()
    bare = list(uncovered(guards()))
    open_sites = [site for site in bare if site not in reasons]
    (settings.state / "log").mkdir(parents=True, exist_ok=True)
    listed = settings.state / "log" / "guards-open.txt"
    lines = [
        *(f"{site}: no row yet" for site in open_sites),
        *(f"{site}: {reasons[site]}" for site in bare if site in reasons),
    ]
    listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    output.say(f"  {len(bare)} functions refuse without a row in {TABLE.name}; {len(open_sites)} need one: {listed}")
    loose = [guard.name for guard in chosen(count, commit) if not _is_held(guard, settings)]
    if loose:
        raise CheckFailed("guards that their tests do not hold: " + "; ".join(loose), where=TABLE.name)


def uncovered(rows: list[Guard]) -> Iterator[str]:
    """Yield ``file: function`` of the gate for each function that refuses and has no row."""
    lines: Mapping[str, set[str]] = {}
    for row in rows:
        lines = {**lines, row.file: lines.get(row.file, set()) | {row.line}}
    for path in sorted((ROOT / "gate").rglob("*.go")):
        if path.name.endswith("_test.go"):
            continue
        name = str(path.relative_to(ROOT))
        for function in _FUNCTION.finditer(path.read_text(encoding="utf-8")):
            body = function.group()
            if _REFUSES.search(body) and not any(line in body for line in lines.get(name, ())):
                yield f"{name}: {function.group(1)}"


def _is_held(guard: Guard, settings: Settings) -> bool:
    """Return whether the guard's test holds it; why not is shown."""
    try:
        with output.progress(f"without: {guard.name}"):
            _held(guard, settings)
    except CheckFailed as failure:
        output.say(f"  {failure}")
        return False
    return True


def _held(guard: Guard, settings: Settings) -> None:
    """Check that without the guard its test fails and the twin passes.

    Raises:
        CheckFailed: it is not so.
    """
    run = _go if guard.file.endswith(".go") else _python
    test, twin = run(guard, settings)
    if twin != "passed":
        raise CheckFailed(
            f"the twin {guard.twin} {twin}", where=guard.name, expected="it to pass without the guard too"
        )
    if test != "failed":
        raise CheckFailed(
            f"{guard.test} {test}", where=guard.name, expected="it to fail without the guard, by its assertion"
        )


def _go(guard: Guard, settings: Settings) -> tuple[str, str]:
    """Return what becomes of the test and its twin in a build whose file is replaced."""
    environment = go_environment(settings.cache, settings.offline)
    del environment["GOTMPDIR"]  # tests put sockets below it, whose paths must be short
    folder = ROOT / guard.file.split("/", 1)[0]
    package = folder / (guard.package or Path(guard.file).parent.relative_to(folder.name))
    recipe = next(r for r in recipes().values() if r.folder == folder.name)
    with tempfile.TemporaryDirectory(dir=scratch(settings.cache)) as made:
        replaced, overlay, binary = Path(made, "broken.go"), Path(made, "overlay.json"), Path(made, "tests")
        replaced.write_text(guard.text(), encoding="utf-8")
        overlay.write_text(json.dumps({"Replace": {str(ROOT / guard.file): str(replaced)}}), encoding="utf-8")
        build = [
            str(tool("go", settings)),
            "test",
            "-c",
            f"-tags={recipe.tags}",
            f"-overlay={overlay}",
            "-o",
            str(binary),
            ".",
        ]
        built = subprocess.run(build, cwd=package, env=environment, capture_output=True, text=True, check=False)
        if built.returncode or not binary.exists():
            raise CheckFailed(f"the broken code does not compile: {built.stderr.strip()[-400:]}", where=guard.name)
        environment["GOFLAGS"] += f" -overlay={overlay}"  # for tests that build a program
        environment["PATH"] = f"{tool('go', settings).parent}:{environment['PATH']}"
        return _go_test(binary, guard.test, package, environment), _go_test(binary, guard.twin, package, environment)


def _go_test(binary: Path, test: str, package: Path, environment: Mapping[str, str]) -> str:
    pattern = "/".join(f"^{re.escape(part.replace(' ', '_'))}$" for part in test.split("/"))
    ended = subprocess.run(
        [str(binary), f"-test.run={pattern}", "-test.v", f"-test.timeout={TEST_SECONDS}s"],
        cwd=package,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    name = test.replace(" ", "_")
    if f"--- PASS: {name} " in ended.stdout and not ended.returncode:
        return "passed"
    if f"--- FAIL: {name} " in ended.stdout and "panic: " not in ended.stdout:
        return "failed"
    return f"ended otherwise: {ended.stdout.strip()[-400:] or 'there is no such test'}"


def _python(guard: Guard, settings: Settings) -> tuple[str, str]:
    """Return what becomes of the test and its twin in a copy of the repository whose file is replaced."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(dir=scratch(settings.cache)) as made:
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                copy = Path(made, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes((ROOT / name).read_bytes())
        Path(made, guard.file).write_text(guard.text(), encoding="utf-8")
        return _pytest(guard.test, Path(made)), _pytest(guard.twin, Path(made))


def _pytest(test: str, folder: Path) -> str:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=TEST_SECONDS)
    if ended.returncode == 0:
        return "passed"
    if ended.returncode == 1 and _ASSERTED.search(ended.stdout):
        return "failed"
    return f"ended otherwise: {ended.stdout.strip()[-400:]}"
