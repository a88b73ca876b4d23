"""Logins as docker, podman and cosign keep them, and what is wrong with a file or an entry that holds none."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from countersign.oci.credentials import Credentials, load, read
from countersign.oci.errors import BadConfig, RegistryAuth
from countersign.oci.login import Login


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def of(*documents: dict[str, Any]) -> Credentials:
    return Credentials([read(json.dumps(each).encode(), f"{i}.json") for i, each in enumerate(documents)])


def user(found: Login | None) -> str:
    return found.user if found else ""


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("registry.example/other", "host"),
        ("registry.example/organisation", "host"),
        ("registry.example/org", "org"),
        ("registry.example/org/other", "org"),
        ("registry.example/org/app", "app"),
        ("registry.example/org/app/deep", "app"),
        ("registry.example/empty/app", ""),
        ("registry.example:5000/org/app", ""),
        ("a.registry.example/org/app", ""),
        ("url.example/other", "url"),
        ("slash.example/any", "api"),
        ("path.example/v1/app", "v1"),
        ("path.example/other", ""),
        ("docker.io/library/alpine", "hub"),
        ("index.docker.io/library/alpine", "hub"),
        ("registry-1.docker.io/team/app", "team"),
        ("twice.example/app", "b"),
        ("none.example/app", ""),
    ],
)
def test_the_longest_path_counts_as_on_the_node(repository: str, expected: str) -> None:
    """The rows are those of the gate's TestTheLongestKeyCounts."""

    def entry(name: str) -> dict[str, str]:
        return {"username": name, "password": "p"}

    auths: dict[str, Any] = {
        "registry.example": entry("host"),
        "registry.example/org": entry("org"),
        "registry.example/org/app": entry("app"),
        "registry.example/empty": {},
        "https://url.example/org": entry("url"),
        "slash.example/v1/": entry("api"),
        "path.example/v1": entry("v1"),
        "https://index.docker.io": entry("hub"),
        "docker.io/team": entry("team"),
        "twice.example": {},
        "http://twice.example/v2/": entry("b"),
        "https://twice.example/": entry("c"),
    }
    assert user(of({"auths": auths}).find(repository)) == expected
    assert user(of({"auths": dict(reversed(auths.items()))}).find(repository)) == expected


@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "https://index.docker.io",
        "docker.io",
        "index.docker.io/v1/",
        "registry-1.docker.io",
    ],
)
def test_docker_hub_has_several_names(key: str) -> None:
    known = of({"auths": {key: {"auth": encoded("me:secret")}}})
    assert user(known.find("registry-1.docker.io/team/app", "docker.io/team/app")) == "me"
    assert known.find("registry.example/team/app") is None


PADDED = encoded("u:secret")  # ends with "="


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": PADDED}, ("u", "secret", "", "")),
        ({"auth": PADDED + "\n"}, ("u", "secret", "", "")),
        ({"auth": PADDED[:4] + "\r\n" + PADDED[4:]}, ("u", "secret", "", "")),
        ({"auth": f" {PADDED}\t"}, ("u", "secret", "", "")),
        ({"auth": PADDED.rstrip("=")}, ("u", "secret", "", "")),
        ({"auth": "dTo_Pz8-"}, ("u", "???>", "", "")),
        ({"auth": encoded("u:a:b")}, ("u", "a:b", "", "")),
        ({"auth": encoded("u:p\0\0")}, ("u", "p", "", "")),
        ({"auth": PADDED, "username": "x", "password": "y"}, ("u", "secret", "", "")),
        ({"auth": "", "username": "u", "password": "secret"}, ("u", "secret", "", "")),
        ({"username": "u", "password": "secret"}, ("u", "secret", "", "")),
        ({"identitytoken": "refresh"}, ("", "", "refresh", "")),
        ({"auth": encoded("0000:"), "identitytoken": "refresh"}, ("", "", "refresh", "")),
        ({"registrytoken": "bearer"}, ("", "", "", "bearer")),
        ({"auth": PADDED, "email": 5}, ("u", "secret", "", "")),
    ],
)
def test_entries_as_tools_write_them(entry: dict[str, Any], expected: tuple[str, str, str, str]) -> None:
    """The rows are those of the gate's TestEntriesAsToolsWriteThem."""
    found = of({"auths": {"r.example": entry}}).find("r.example/app")
    assert found is not None
    assert (found.user, found.password, found.refresh, found.bearer) == expected
    assert "secret" not in repr(found)


@pytest.mark.parametrize("entry", [{}, None, {"auth": ""}, {"username": "u"}])
def test_an_empty_entry_means_none(entry: Any) -> None:
    assert of({"auths": {"r.example": entry}}).find("r.example/app") is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"auth": encoded("secret\n")}, "not base64 of user:password"),
        ({"auth": encoded(":secret")}, "not base64 of user:password"),
        ({"auth": "secret!"}, "not base64 of user:password"),
        ({"auth": "secretx"[:5]}, "not base64 of user:password"),
        ({"auth": 5}, "not an object of strings"),
        ({"password": "\ud800secret"}, "not an object of strings"),
        ({"registrytoken": "secret\r\nX: y"}, "registrytoken is not a token"),
        ("secret", "is not an object"),
    ],
)
def test_an_entry_that_cannot_be_used_harms_its_own_registry_only(entry: Any, message: str) -> None:
    known = of({"auths": {"bad.example": entry, "good.example": {"auth": PADDED}}})
    assert user(known.find("good.example/app")) == "u"
    with pytest.raises(RegistryAuth, match=message) as caught:
        known.find("bad.example/app")
    assert caught.value.code == "REGISTRY_AUTH"
    assert "auths.bad.example" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("at_host", "expected"),
    [
        ("mirror.example/team/app", "mirror"),
        ("mirror.example/proxy/team/app", "proxy"),
        ("empty.example/team/app", "team"),
        ("other.example/team/app", "team"),
    ],
)
def test_a_mirrors_own_login_goes_before_the_registrys(at_host: str, expected: str) -> None:
    auths = {name: {"username": name.split(".")[0], "password": "p"} for name in ("mirror.example", "docker.io/team")}
    auths |= {"mirror.example/proxy": {"username": "proxy", "password": "p"}, "empty.example": {}}
    auths["docker.io/team"]["username"] = "team"
    assert user(of({"auths": auths}).find(at_host, "docker.io/team/app")) == expected


def test_a_file_goes_before_the_next_and_is_named() -> None:
    first = {"auths": {"a.example": {"auth": encoded("first:p")}, "b.example": {}}}
    second = {"auths": {name: {"auth": encoded("second:p")} for name in ("a.example", "b.example", "c.example")}}
    known = of(first, second)
    assert [user(known.find(f"{name}.example/app")) for name in "abc"] == ["first", "second", "second"]
    assert known.used == ["0.json: auths.a.example", "1.json: auths.b.example", "1.json: auths.c.example"]


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "fake") -> None:
    program = tmp_path / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def knows(server: str, name: str = "me", secret: str = "secret") -> str:
    answer = json.dumps({"ServerURL": server, "Username": name, "Secret": secret})
    return (
        f"read s; test \"$1 $s\" = 'get {server}' && echo '{answer}' || {{ echo credentials not found in it; exit 1; }}"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"credHelpers": {"r.example": "fake"}},
        {"credHelpers": {"r.example": "fake"}, "auths": {"r.example": {"auth": PADDED}}},
        {"credsStore": "fake"},
        {"credsStore": "fake", "auths": {"r.example": {}}},
    ],
)
def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]) -> None:
    helper(tmp_path, monkeypatch, knows("r.example"))
    known = of(document)
    assert user(known.find("r.example/app")) == "me"
    assert known.used == ["0.json: docker-credential-fake for r.example"]
    assert known.find("other.example/app") is None


@pytest.mark.parametrize(
    ("repository", "server", "document"),
    [
        ("docker.io/team/app", "https://index.docker.io/v1/", {"credsStore": "fake"}),
        ("docker.io/team/app", "docker.io", {"credHelpers": {"docker.io": "fake"}}),
        ("r.example/app", "https://r.example/v2/", {"auths": {"https://r.example/v2/": {}}, "credsStore": "fake"}),
    ],
)
def test_a_helper_knows_a_registry_by_the_name_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str, server: str, document: dict[str, Any]
) -> None:
    helper(tmp_path, monkeypatch, knows(server))
    assert user(of(document).find(repository)) == "me"


def test_a_helpers_identity_token_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, knows("r.example", "<token>"))
    found = of({"credsStore": "fake"}).find("r.example/app")
    assert found is not None
    assert (found.user, found.password, found.refresh) == ("", "", "secret")


def test_an_entry_goes_before_the_helper_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, knows("r.example"))
    assert user(of({"credsStore": "fake", "auths": {"r.example": {"auth": PADDED}}}).find("r.example/app")) == "u"
    assert user(of({"credsStore": "fake"}, {"auths": {"r.example": {"auth": PADDED}}}).find("r.example/app")) == "u"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no >&2; exit 1", "failed: no"),
        ("echo locked; exit 2", "failed: locked"),
        ("exit 3", "failed: exit status 3"),
        ("echo '{}'", "no Username and Secret"),
        ("echo x", "no Username"),
        ("yes", "more than 65536 bytes"),
    ],
)
def test_a_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str) -> None:
    helper(tmp_path, monkeypatch, script)
    known = of({"credHelpers": {"r.example": "fake"}, "auths": {"other.example": {"auth": PADDED}}})
    with pytest.raises(RegistryAuth, match=message) as caught:
        known.find("r.example/app")
    assert caught.value.code == "REGISTRY_AUTH"
    assert user(known.find("other.example/app")) == "u"


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & exit 0", "exec >&- 2>&-; sleep 60"])
def test_a_helper_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr("countersign.oci.credential_program._SECONDS", 0.3)
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(RegistryAuth, match=r"no whole answer|did not end"):
        of({"credsStore": "fake"}).find("r.example/app")


def test_a_helper_that_is_not_installed() -> None:
    known = of({"credsStore": "nowhere", "auths": {"r.example": {"auth": PADDED}}})
    assert user(known.find("r.example/app")) == "u"
    with pytest.raises(RegistryAuth, match="docker-credential-nowhere is not on PATH"):
        known.find("other.example/app")


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "-x", "x" * 65, "a\nb"])
def test_a_helpers_name_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(RegistryAuth, match="not a credential helper's name"):
        of({"credHelpers": {"r.example": name}}).find("r.example/app")


def test_no_file_is_anonymous() -> None:
    assert load().find("r.example/app") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "no JSON"),
        (b" " * (1 << 20) + b"{}", "over 1 MiB"),
        (b'{"auths": []}', "auths: is not an object"),
        (b'{"credHelpers": 1}', "credHelpers: is not an object"),
        (b'{"credsStore": 1}', "credsStore: is not a string"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadConfig, match=message):
        load(tmp_path / "config.json")


@pytest.mark.parametrize("content", [b"", b"\n", b"null", b"{}"])
def test_a_file_that_says_nothing_knows_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert load(tmp_path / "config.json").find("r.example/app") is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="No such file"):
        load(tmp_path / "config.json")
