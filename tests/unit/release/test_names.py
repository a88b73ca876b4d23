"""What users mistype and attackers send in release.yaml: names, paths, and what is no such file at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from release import names
from release.load import ReleaseInvalid, load

Edit = Callable[[str, str], Path]
PACKAGE = "{name: app, description: x, formats: [deb], suggests: [y], files: [{source: main.go, target: /usr/app}]}"


def said(path: Path) -> str:
    with pytest.raises(ReleaseInvalid) as caught:
        load(path)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "registry.example",
        "registry.example:5000/a/b",
        "127.0.0.1:5000",
        "localhost/x",
        "[::1]:5000/x",
        "docker.io/acme/",
    ],
)
def test_images_can_be_named_below_a_registry(edited: Edit, text: str) -> None:
    assert load(edited("registry: registry.example/acme", f'registry: "{text}"')).registry == text.rstrip("/")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://registry.example/x", "expected HOST/PATH, with no scheme, login, tag or digest"),
        ("me:secret@registry.example/x", "got '…@registry.example/x'; expected HOST/PATH"),
        ("registry.example/x:1", "with no scheme, login, tag or digest"),
        ("registry.example/X", "with no scheme, login, tag or digest"),
        ("registry.example/ü", "with no scheme, login, tag or digest"),
        ("ghcr.io/../x", "with no scheme, login, tag or digest"),
        ("acme", "such as docker.io/acme"),
        ("registry.example:99999/x", "got port 99999; expected 1 to 65535"),
    ],
)
def test_another_registry_is_refused_and_a_login_is_not_repeated(edited: Edit, text: str, says: str) -> None:
    line = said(edited("registry: registry.example/acme", f'registry: "{text}"'))
    assert says in line
    assert "secret" not in line
    assert names.wrong_registry(text) in line


@pytest.mark.parametrize("name", ["a..b", "a___b", "a._b"])
def test_an_image_is_called_as_registries_take_it(edited: Edit, name: str) -> None:
    assert "expected a name that a registry takes" in said(edited("{name: app, programs", f"{{name: {name}, programs"))
    assert load(edited("{name: app, programs", "{name: a.b__c---d, programs")).images[0].name == "a.b__c---d"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", ""),
        ("name: app", "name: a_b", "packages[0].name: got 'a_b'; expected lower-case letters"),
        (
            "x, formats",
            '"x\\nDepends: evil", formats',
            "packages[0].description: got 'x\\nDepends: evil'; expected one line",
        ),
        ("[y]", '["y\\nDepends: evil"]', "packages[0].suggests[0]: got 'y\\nDepends: evil'; expected one line"),
        ("/usr/app", '"/usr/\\napp"', "packages[0].files[0].target: got '/usr/\\napp'; expected one line"),
        ("main.go", "folder", "packages[0].files[0].source: 'folder' is not a file"),
    ],
)
def test_what_stands_in_a_packages_control_file_is_one_line(edited: Edit, old: str, new: str, says: str) -> None:
    package = PACKAGE.replace(old, new) if old else PACKAGE
    path = edited("sign:\n", f"packages:\n  - {package}\nsign:\n")
    (path.parent / "folder").mkdir()
    if not says:
        assert load(path).packages[0].name == "app"
        return
    assert says in said(path)


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("self", "got 'self'; expected a path below app/"),
        ('"a\\0b"', "expected a path below app/"),
        ("a" * 5000, "a…'; expected a path below app/"),
        ("out/passwd", "got 'out/passwd'; expected a path below app/"),
        ("/etc/passwd", "expected a path below app/"),
        ("folder", "'folder' is not a file"),
        ('"ein  Name.md"', ""),
        ("änderungen.md", ""),
    ],
)
def test_a_path_is_a_file_of_the_project(edited: Edit, new: str, says: str) -> None:
    path = edited("changelog: CHANGELOG.md", f"changelog: {new}")
    (path.parent / "self").symlink_to("self")
    (path.parent / "out").symlink_to("/etc")
    (path.parent / "folder").mkdir()
    for name in ("ein  Name.md", "änderungen.md"):
        (path.parent / name).write_text("## 1.2.3\n- x\n")
    if says:
        assert says in said(path)
    else:
        assert load(path).changelog == path.parent / new.strip('"')


@pytest.mark.parametrize(
    ("package", "says"),
    [
        ("./...", "expected ./PATH below '.'"),
        ("./a b", "expected ./PATH below '.'"),
        ("-toolexec=x", "expected ./PATH below '.'"),
        ("./nope", "there is no './nope' below '.'"),
    ],
)
def test_a_package_of_a_program_is_a_folder(edited: Edit, package: str, says: str) -> None:
    path = edited("{name: app, variable", f'{{name: app, package: "{package}", variable')
    assert says in said(path)
    if package == "./nope":
        (path.parent / "nope").mkdir()
        assert load(path).programs[0].package == "./nope"


def test_a_private_key_is_not_whom_to_trust(edited: Edit) -> None:
    assert "got 'release.key'; expected the public key" in said(edited("key: release.pub", "key: release.key"))
    assert load(edited("key: release.pub", "key: keys/release.pub")).key is not None


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "a link to nothing", "a link"])
def test_a_release_yaml_is_a_file(edited: Edit, project: Path, kind: str) -> None:
    path = edited("", "")
    kept = path.rename(path.with_name("kept.yaml"))
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"a device": "/dev/zero", "a link to nothing": "nowhere", "a link": kept.name}[kind])
    if kind == "a link":
        assert load(path).root == project
        return
    assert "expected a release.yaml, which release.init writes" in said(path)
