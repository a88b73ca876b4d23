"""The house: rooms stand in one order, read from the imports, and no two files import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import pytest

from countersign.console.config import ROOT

ORDER: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "countersign.console",
        "countersign.oci countersign.cri countersign.keys countersign.nodes countersign.tools",
        "countersign.policy",
        "countersign.trust countersign.enforcement",
        "countersign.runtimes",
        "signing machines kind",
        "containerd crio admission",
        "rollout release",
        "lab.demo",
        "lab.trials",
        "lab.report lab.bench",
        "lab.commands",
        "tests",
        "tasks",
    )
)
"""From the ground up: a room may import those of its own floor and of the floors below."""
APART = (frozenset({"containerd", "crio"}),)
"""Rooms of one floor that know nothing of each other."""


def floor(module: str) -> int:
    """Return on which floor a module stands."""
    found = [number for number, rooms in enumerate(ORDER) if any(_within(module, room) for room in rooms)]
    assert len(found) == 1, f"{module} stands on no floor, or on several: add its room to ORDER"
    return found[0]


def _within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def sources() -> Mapping[str, str]:
    """Return module → text of all Python that is not a test of its own, and no package's face."""
    paths = [*ROOT.glob("*.py"), *(path for face in ROOT.glob("*/__init__.py") for path in face.parent.rglob("*.py"))]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {
        name: path.read_text(encoding="utf-8")
        for name, path in names.items()
        if not name.endswith("__init__") and not name.startswith("tests.unit")
    }


def imports(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Return module → the modules of ours that it imports anywhere, functions and type checking included."""
    return {name: set(_imported(ast.parse(text), texts)) for name, text in texts.items()}


def _imported(tree: ast.Module, known: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                yield from (name for name in (inner, node.module) if name in known)


def upward(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return the arrows that lead to a higher floor, or between rooms that know nothing of each other."""
    wrong = []
    for name, targets in arrows.items():
        for target in sorted(targets):
            rooms = {name.partition(".")[0], target.partition(".")[0]}
            if floor(target) > floor(name) or rooms in APART:
                wrong.append(f"{name} -> {target}")
    return sorted(wrong)


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of files that import each other in a circle (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for target in arrows[name]:
            if target not in number:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], number[target])
        if low[name] == number[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1 or name in arrows[name]:
                found.append(sorted(group))

    for name in arrows:
        if name not in number:
            visit(name)
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    return imports(sources())


def test_no_room_imports_one_that_stands_above_it(arrows: dict[str, set[str]]) -> None:
    assert len(arrows) > 200
    assert upward(arrows) == []


def test_no_files_import_each_other_in_a_circle(arrows: dict[str, set[str]]) -> None:
    assert circles(arrows) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("from lab.trials.run import run", True),
        ("def late():\n    from lab.trials import run", True),
        ("import lab.trials.run", True),
        ("from countersign.oci.registry import Registry", False),
    ],
)
def test_an_arrow_back_is_seen_wherever_it_stands(text: str, wrong: bool) -> None:
    texts = {"containerd.x": text, "lab.trials.run": "", "countersign.oci.registry": ""}
    assert bool(upward(imports(texts))) is wrong


@pytest.mark.parametrize(("back", "found"), [("from signing.a import x", [["signing.a", "signing.b"]]), ("", [])])
def test_a_circle_is_seen(back: str, found: list[list[str]]) -> None:
    texts = {"signing.a": "if TYPE_CHECKING:\n    from signing.b import y", "signing.b": back}
    assert circles(imports(texts)) == found
