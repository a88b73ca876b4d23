"""What is there in a repository that has no release.yaml yet: programs, a chart, a version, a changelog, its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from countersign.console.errors import UsageError
from release import charts, git, names

_MAIN = re.compile(r"^package main$", re.MULTILINE)
_VERSIONED = re.compile(r'^\[project\]$[^\[]*?^version = "', re.MULTILINE)
_REPOSITORY = re.compile(r"https://github\.com/([A-Za-z0-9-]{1,39})/([A-Za-z0-9._-]{1,100})")
_REMOTE = re.compile(r"(?:ssh://)?(?:git@)(github\.com)[:/](.+?)(?:\.git)?/?|(https://github\.com/.+?)(?:\.git)?/?")
_MOST = 1 << 20  # bytes of a source file


@dataclass(frozen=True)
class Main:
    """A Go program: its name, its module's folder, and its package within that."""

    name: str
    folder: str
    package: str


@dataclass(frozen=True)
class Found:
    """What release.yaml is made of.

    Attributes:
        name: of the project, as its repository is called, in lower case.
        source: the repository's URL, as GitHub spells it in identities.
        registry: what image names begin with.
        programs: all Go programs, by folder.
        chart: the folder of the Helm chart; empty for none.
        chart_image: whether its values have an empty place for the image.
        image: what the image is called; never as the chart is, which lies beside it.
        version: the pyproject.toml with the version; empty for none.
        changelog: the file's name; empty for none.
    """

    name: str
    source: str
    registry: str
    programs: tuple[Main, ...]
    chart: str
    chart_image: bool
    image: str
    version: str
    changelog: str


def look(root: Path, source: str) -> Found:
    """Look at what git knows of a repository.

    Args:
        root: its folder.
        source: its URL on GitHub; empty for that of the remote ``origin``.

    Raises:
        UsageError: it is not on GitHub, has no Go program, or something in it is called as no image can be.
    """
    files = [PurePosixPath(each) for each in git.files(root)]
    url, owner, repository = _source(root, source)
    programs = tuple(_programs(root, files))
    if not programs:
        do = "write release.yaml by hand; release/README.md has all of it"
        raise UsageError("no Go program (package main below a go.mod) is there", where=str(root), do=do)
    chart = next((str(each.parent) for each in files if each.name == "Chart.yaml" and "charts" not in each.parts), "")
    name = repository.lower()
    for what, each in ((url, name), *((f"{one.folder}/{one.package}", one.name) for one in programs)):
        if wrong := names.wrong_image(each):
            do = "write release.yaml by hand, with another name"
            raise UsageError(wrong, where=what, do=do)
    taken = bool(chart) and charts.metadata(root / chart)["name"] == name
    return Found(
        name=name,
        source=url,
        registry=f"ghcr.io/{owner.lower()}",
        programs=programs,
        chart=chart,
        chart_image=bool(chart) and _has_place(root / chart / "values.yaml"),
        image=f"{name}-image" if taken else name,
        version="pyproject.toml" if _VERSIONED.search(_text(root / "pyproject.toml")) else "",
        changelog="CHANGELOG.md" if PurePosixPath("CHANGELOG.md") in files else "",
    )


def _source(root: Path, given: str) -> tuple[str, str, str]:
    """Return URL, owner and name of a repository; an identity has them as GitHub spells them."""
    text = given or git.remote(root)
    match = _REMOTE.fullmatch(text.strip())
    url = f"https://github.com/{match[2]}" if match and match[2] else match[3] if match else ""
    parts = _REPOSITORY.fullmatch(url)
    if parts is None:
        where = "--source" if given else f"{root}: remote origin"
        do = "the workflow and its identity are GitHub's; for others write release.yaml by hand"
        raise UsageError(f"got {text!r}", where=where, expected="--source https://github.com/OWNER/NAME", do=do)
    return url, parts[1], parts[2]


def _programs(root: Path, files: list[PurePosixPath]) -> Iterator[Main]:
    """Yield every folder with a main package, with the module that it belongs to: the nearest go.mod above."""
    modules = {each.parent for each in files if each.name == "go.mod"}
    folders = sorted({each.parent for each in files if each.suffix == ".go" and not each.name.endswith("_test.go")})
    for folder in folders:
        module = next((each for each in (folder, *folder.parents) if each in modules), None)
        sources = [root / each for each in files if each.parent == folder and each.suffix == ".go"]
        if module is None or "vendor" in folder.parts or not any(_MAIN.search(_text(each)) for each in sources):
            continue
        below = folder.relative_to(module)
        name = folder.name or root.resolve().name
        yield Main(name.lower(), str(module), "." if folder == module else f"./{below}")


def _has_place(values: Path) -> bool:
    return bool(re.search(r'^image:\n(?:[ #].*\n|\n)*?  digest: (?:""|\'\')', _text(values), re.MULTILINE))


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_MOST).decode(errors="replace")
