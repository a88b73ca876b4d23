"""release.yaml: what is read, and one line for each mistake."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from release.load import ReleaseInvalid, load

NOTARY = '{certificate: notary.crt, roots: [go.mod], identity: "x509.subject: C=FI, ST=Uusimaa, O=Acme, CN=release"}'
Edit = Callable[[str, str], Path]


def test_a_whole_file_is_read(project: Path) -> None:
    found = load(project / "release.yaml")
    assert (found.name, found.registry, found.formats) == ("app", "registry.example/acme", ("attachment", "bundle"))
    assert found.platforms == ("linux/amd64", "linux/arm64")
    assert found.program("app").variable == "main.release"
    assert found.key == project / "release.pub"


def test_our_own_is_valid() -> None:
    assert load(ROOT / "release.yaml").name == "countersign"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: app\nsource", "name: App\nsource", 2, "got 'App'"),
        ("https://git.example/acme/app", "git@git.example:acme/app", 3, "expected the repository's URL"),
        ("registry.example/acme", "registry.example/acme:1", 4, "registry.example/acme:1"),
        ("registry.example/acme", "acme", 4, "docker.io/acme"),
        ("version: pyproject.toml", "version: ../pyproject.toml", 5, "expected a path below app/"),
        ("version: pyproject.toml", "version: VERSION", 5, "there is no 'VERSION'"),
        ("version: pyproject.toml", "versoin: pyproject.toml", 5, "unknown key; did you mean version?"),
        ("variable: main.release", "variable: release", 8, "expected PACKAGE.NAME"),
        ("variable: main.release", "package: ./../other", 8, "expected ./PATH below"),
        ("variable: main.release", "tags: 'a -ldflags=x'", 8, "expected Go build tags"),
        ("programs: [app]", "programs: [other]", 10, "unknown program 'other'; expected one of app"),
        ("programs: [app]", "programs: []", 10, "expected at least one entry"),
        ("[attachment, bundle]", "[cosign]", 12, "expected 'attachment', 'bundle' or 'notation'"),
        ("  key: release.pub\n", "", 11, "got neither; expected either key or identity"),
        ("[attachment, bundle]", "[bundle, notation]", 11, "lacks notation, which formats has"),
        ("key: release.pub", f"key: release.pub\n  notation: {NOTARY}", 11, "lacks notation among formats"),
        ("apiVersion: countersign.release/v1", "apiVersion: v2", 1, "expected 'countersign.release/v1'"),
    ],
)
def test_a_mistake_is_one_line(edited: Edit, old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(ReleaseInvalid) as caught:
        load(edited(old, new))
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].line == line
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ("[go.mod, docs]", ""),
        ("[README]", "there is no 'README'"),
        ("[../other]", "expected a path below app/"),
        ("[.]", "got '.'; expected a file or folder below it"),
        ("[go.mod, ./go.mod]", "'go.mod' stands here again"),
        ("go.mod", "expected a list"),
    ],
)
def test_what_else_is_released_is_there_and_has_a_name_of_its_own(edited: Edit, files: str, says: str) -> None:
    path = edited("version: pyproject.toml", f"version: pyproject.toml\nfiles: {files}")
    (path.parent / "docs").mkdir()
    if not says:
        assert load(path).files == ("go.mod", "docs")
        return
    with pytest.raises(ReleaseInvalid, match=re.escape(says)):
        load(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", ""),
        ("ST=Uusimaa, ", "", "has no ST, which notation wants"),
        ("x509.subject: C=FI, ST=Uusimaa, O=Acme, CN=release", "*", 'expected "x509.subject: C=…'),
        ("go.mod", "no-such.pem", "there is no 'no-such.pem'"),
        ("notary.crt", "../notary.crt", "expected a path below app/"),
        ("[go.mod]", "[]", "expected at least one entry"),
    ],
)
def test_who_signs_in_the_format_notation_is_exact(edited: Edit, old: str, new: str, says: str) -> None:
    path = edited(
        "[attachment, bundle]\n  key: release.pub",
        f"[bundle, notation]\n  key: release.pub\n  notation: {NOTARY.replace(old, new)}",
    )
    if not says:
        found = load(path)
        assert found.formats == ("bundle", "notation")
        assert found.notary is not None
        assert found.notary.roots == (path.parent / "go.mod",)
        return
    with pytest.raises(ReleaseInvalid) as caught:
        load(path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("scripts", "says"),
    [
        ("afterInstall: go.mod, beforeRemove: main.go", ""),
        ("afterInstall: after.sh", "packages[0].scripts.afterInstall: there is no 'after.sh'"),
        (
            "beforeRemove: ../before.sh",
            "packages[0].scripts.beforeRemove: got '../before.sh'; expected a path below app/",
        ),
        ("preremove: go.mod", "packages[0].scripts.preremove: unknown key"),
    ],
)
def test_a_packages_scripts_are_files_of_the_project(edited: Edit, scripts: str, says: str) -> None:
    package = '{name: app, description: x, formats: [deb], files: [{source: "{app}", target: /usr/bin/app}]'
    path = edited("sign:\n", f"packages:\n  - {package}, license: MIT, scripts: {{{scripts}}}}}\nsign:\n")
    if not says:
        (found,) = load(path).packages
        assert (found.license, found.after_install, found.before_remove) == ("MIT", "go.mod", "main.go")
        return
    with pytest.raises(ReleaseInvalid) as caught:
        load(path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("subject", "good"),
    [
        ("https://github.com/acme/app/.github/workflows/release.yml@refs/tags/*", True),
        ("https://github.com/**", False),
    ],
)
def test_an_identity_cannot_be_everybody(edited: Edit, subject: str, good: bool) -> None:
    identity = f'identity: {{issuer: "https://i.example", subject: "{subject}", trustedRoot: root.json}}'
    path = edited("key: release.pub", identity)
    if good:
        found = load(path).identity
        assert found is not None
        assert found.subject == subject
        return
    with pytest.raises(ReleaseInvalid, match="wildcard"):
        load(path)


def test_every_mistake_is_told(edited: Edit) -> None:
    path = edited("name: app\nsource: https://git.example/acme/app", "name: A\nsource: x")
    with pytest.raises(ReleaseInvalid, match="and 1 more") as caught:
        load(path)
    assert len(caught.value.problems) == 2
