"""Docker configs: who we are at which server, and what is wrong with a file that does not say."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from oci.credentials import Credentials, load
from oci.errors import BadConfig, RegistryAuth

ME = base64.b64encode(b"me:secret").decode()


def of(document: dict[str, Any]) -> Credentials:
    return Credentials(document, "config.json")


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "https://r.example/v1/", "https://r.example/v2/"])
def test_a_server_is_found_as_docker_writes_it(key: str) -> None:
    assert of({"auths": {key: {"auth": ME}}}).basic("r.example") == ME


def test_another_server_or_port_is_not_found() -> None:
    known = of({"auths": {"r.example": {"auth": ME}}})
    assert known.basic("r.example:5000") is None
    assert known.basic("a.r.example") is None


def test_the_server_asked_goes_before_the_registry_it_stands_for() -> None:
    known = of({"auths": {"r.example": {"auth": "bWU6b2xk"}, "127.0.0.1:5000": {"auth": ME}}})
    assert known.basic("127.0.0.1:5000", "r.example") == ME
    assert known.basic("127.0.0.1:5001", "r.example") == "bWU6b2xk"


@pytest.mark.parametrize("server", ["docker.io", "registry-1.docker.io"])
def test_docker_hub_has_a_key_of_its_own(server: str) -> None:
    assert of({"auths": {"https://index.docker.io/v1/": {"auth": ME}}}).basic(server) == ME


@pytest.mark.parametrize("key", ["https://index.docker.io", "https://docker.io/", "https://registry-1.docker.io/v2/"])
def test_docker_hub_without_the_usual_path(key: str) -> None:
    assert of({"auths": {key: {"auth": ME}}}).basic("docker.io") == ME
    assert of({"auths": {key: {"auth": ME}}}).basic("r.example") is None


@pytest.mark.parametrize("extra", [{}, {"auth": ""}])
def test_user_and_password_in_the_clear(extra: dict[str, str]) -> None:
    assert of({"auths": {"r.example": {"username": "me", "password": "secret", **extra}}}).basic("r.example") == ME


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_in_auth_are_skipped(end: str) -> None:
    assert of({"auths": {"r.example": {"auth": ME[:4] + end + ME[4:] + end}}}).basic("r.example") == ME


def test_an_empty_entry_means_none() -> None:
    assert of({"auths": {"r.example": {}}}).basic("r.example") is None
    assert of({"auths": {"r.example": {"auth": ""}}}).basic("r.example") is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"auths": []}, None),
        ({"auths": 1}, "auths: is no object"),
        ({"auths": {"r.example": 1}}, "is no object"),
        ({"auths": {"r.example": {"auth": "***"}}}, "no base64"),
        ({"auths": {"r.example": {"auth": "bWU="}}}, "no user:password"),
        ({"auths": {"r.example": {"identitytoken": "x"}}}, "a token is not supported"),
        ({"credHelpers": {"r.example": "../../bin/sh"}}, "no helper's name"),
    ],
)
def test_an_entry_that_cannot_be_used(document: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert of(document).basic("r.example") is None
        return
    with pytest.raises(BadConfig, match=message):
        of(document).basic("r.example")


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "docker-credential-fake"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"Username": "me", "Secret": "secret"})
    helper(tmp_path, monkeypatch, f"read server; test \"$1 $server\" = 'get r.example' && echo '{answer}'")
    assert of({"credHelpers": {"r.example": "fake"}}).basic("r.example") == ME
    assert of({"credsStore": "fake"}).basic("r.example") == ME


def test_a_helper_that_has_nothing_means_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert of({"credsStore": "fake"}).basic("r.example") is None


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo no >&2; exit 1", "failed: no"), ("echo '{}'", "no Username and Secret"), ("echo x", "no Username")],
)
def test_a_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str) -> None:
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(RegistryAuth, match=message) as caught:
        of({"credsStore": "fake"}).basic("r.example")
    assert caught.value.code == "REGISTRY_AUTH"


def test_a_helper_that_is_not_installed() -> None:
    with pytest.raises(RegistryAuth, match="docker-credential-nowhere is not on PATH"):
        of({"credsStore": "nowhere"}).basic("r.example")


def test_no_file_is_anonymous() -> None:
    assert load(None).basic("r.example") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "no JSON"), (b"[]", "no JSON object"), (b"\xff", "no JSON"), (b" " * (1 << 20) + b"{}", "over 1 MiB")],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadConfig, match=message):
        load(tmp_path / "config.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="No such file"):
        load(tmp_path / "config.json")
