"""What the documents say about codes, rows and commands is what the code has."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess

import pytest

from countersign.console.config import ROOT
from lab.trials.crio_place import CrioPlace
from lab.trials.crio_starts import STARTS
from lab.trials.model import load, sample, shows
from lab.trials.pods.model import load as pods
from lab.trials.rows import reason_codes

TRIED = [(case.id, case.code) for case in load()] + [(f"starts/{each.name}", each.code) for each in STARTS]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*/README.md")),
]
CODE = re.compile(r"`([A-Z][A-Z_]{3,})`")
ROW = re.compile(r"`([a-z_]+(?:/[a-z_…-]+)+)`")
COMMAND = re.compile(r"\./inv ((?:[a-z]+(?:\.[a-z0-9-]+)+ ?)+)")


def section(document: str, title: str) -> list[str]:
    """Return the table's lines in a section of a document."""
    text = (ROOT / document).read_text()
    body = re.split(rf"^## {title}$", text, flags=re.MULTILINE)[1]
    body = re.split(r"^## ", body, flags=re.MULTILINE)[0]
    return [line for line in body.splitlines() if line.startswith("| ") and "---" not in line][1:]


def test_every_threat_names_rows_of_the_matrix_that_give_its_codes() -> None:
    threats = section("docs/threats.md", "Attacks")
    assert len(threats) > 15
    for line in threats:
        named = [row.removesuffix("…") for row in ROW.findall(line) if not row.startswith("tests/")]
        found = [code for name, code in TRIED for row in named if name.startswith(row)]
        assert all(any(name.startswith(row) for name, _ in TRIED) for row in named), line
        assert set(CODE.findall(line)) <= set(found), line


def test_troubleshooting_has_every_code_that_refuses() -> None:
    lines = "\n".join(section("containerd/README.md", "Troubleshooting"))
    refusing = {code for code, allows in reason_codes().items() if not allows}
    cannot_come_from_a_key = {"UNTRUSTED_CHAIN", "WRONG_IDENTITY", "EXPIRED", "NO_TRUSTED_TIME"}
    assert set(CODE.findall(lines)) == refusing - cannot_come_from_a_key


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_exists(document: str) -> None:
    from tasks import ns

    named = {name for match in COMMAND.findall((ROOT / document).read_text()) for name in match.split()}
    assert named <= set(ns.task_names)


def test_the_decisions_are_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in folder.glob("0*.md"))


def commands(document: str) -> list[str]:
    """Return every ``./inv …`` line in the shell blocks of a document, without comments and variables."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    found = [line[line.index("./inv ") :] for line in lines if "./inv " in line and not line.startswith("#")]
    return [re.split(r" && | > ", part)[0].strip() for part in found]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_shell_block_can_be_given(document: str) -> None:
    """Tasks and options of that name exist, and take a value or none."""
    from invoke.parser import Parser

    from tasks import ns

    for command in commands(document):
        words = shlex.split(command)[1:]
        if words[0].startswith("-"):
            continue  # Invoke's own, such as --list
        Parser(contexts=ns.to_contexts()).parse_argv(words)


ONLY = re.compile(r"containerd\.test .*--only|crio\.test .*--only")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_row_that_a_command_names_is_one(document: str) -> None:
    for command in filter(ONLY.search, commands(document)):
        words = shlex.split(command)
        for flag, row in itertools.pairwise(words):
            assert flag != "--only" or any(name.startswith(row) for name, _ in TRIED), command


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_key_that_a_document_makes_is_one_that_git_ignores(document: str) -> None:
    """Else signing.keys refuses to make it in a checkout."""
    for command in commands(document):
        words = shlex.split(command)
        if "signing.keys" in words:
            argv = ["git", "-C", str(ROOT), "check-ignore", "--quiet", f"{words[words.index('--out') + 1]}.key"]
            found = subprocess.run(argv, check=False, capture_output=True)
            assert found.returncode == 0 or b"not a git repository" in found.stderr, command


LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
PAGES = [*DOCUMENTS, "CHANGELOG.md", *sorted(f"docs/adr/{path.name}" for path in (ROOT / "docs/adr").glob("*.md"))]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", PAGES)
def test_every_link_leads_somewhere(document: str) -> None:
    page = ROOT / document
    for to, anchor in LINK.findall(page.read_text()):
        target = (page.parent / to) if to else page
        assert target.exists(), to
        assert not anchor or anchor in anchors(target.read_text()), f"{to}#{anchor}"


def test_the_readme_counts_the_trials_that_there_are() -> None:
    cases = load()
    elsewhere = sample([case for case in cases if case.name != "short"], shows)
    here = CrioPlace.rows(cases)
    pulled = {case.image for case in here if case.way == "pull"}
    text = (ROOT / "README.md").read_text()
    assert (
        f"{len(cases)} rows of the matrix (a sample of {len(elsewhere)} elsewhere), {len(pods())} pods in Kind" in text
    )
    own = f"{len(pulled)} images by its own engine"
    assert f"{len(here)} rows, {len(STARTS)} ways to start, {own}" in text
    assert f"{len(cases)} rows came out as they must" in text


def test_the_readme_shows_commands() -> None:
    assert len(commands("README.md")) > 8
