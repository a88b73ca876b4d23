"""Credentials from a Docker ``config.json``: ``auths``, and credential helpers.

Helpers are programs of the host (``docker-credential-<name>``), as Docker's "Credential helper protocol" has them.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oci.errors import BadConfig, RegistryAuth

_FILE_LIMIT = 1 << 20  # bytes
_HELPER_SECONDS = 10
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_HAS_NONE = "credentials not found in native keychain"


@dataclass(frozen=True)
class Credentials:
    """What a Docker config knows; empty means anonymous.

    Attributes:
        document: the parsed config.json.
        where: its path, for messages.
    """

    document: Mapping[str, Any] = field(default_factory=dict)
    where: str = "no Docker config"

    def basic(self, *servers: str) -> str | None:
        """Return the value for ``Authorization: Basic …`` of the first server that is known, or None.

        Raises:
            BadConfig: if the entry cannot be used.
            RegistryAuth: if a credential helper fails.
        """
        for server in servers:
            for name in _spellings(server):
                found = self._inline(name) or self._from_helper(name)
                if found:
                    return found
        return None

    def _inline(self, name: str) -> str | None:
        entry = _table(self.document, "auths", self.where).get(name)
        if not entry:
            return None
        where = f"{self.where}: auths.{name}"
        if not isinstance(entry, dict):
            raise BadConfig("is no object", where=where)
        if entry.get("auth"):
            return _checked(entry["auth"], where)
        if "username" in entry and "password" in entry:
            return _encode(str(entry["username"]), str(entry["password"]))
        if "identitytoken" in entry or "registrytoken" in entry:
            raise BadConfig("a token is not supported", where=where, expected="auth, or username and password")
        return None

    def _from_helper(self, name: str) -> str | None:
        helper = _table(self.document, "credHelpers", self.where).get(name) or self.document.get("credsStore")
        if not helper:
            return None
        program = f"docker-credential-{helper}"
        if "/" in program:
            raise BadConfig(f"{helper!r} is no helper's name", where=self.where)
        return _ask(program, name, self.where)


def load(path: Path | None) -> Credentials:
    """Read a Docker config.json.

    Args:
        path: the file, or None for anonymous access.

    Raises:
        BadConfig: if it cannot be read or is no JSON object.
    """
    if path is None:
        return Credentials()
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except OSError as err:
        raise BadConfig(f"cannot be read: {err.strerror}", where=str(path)) from err
    if len(content) > _FILE_LIMIT:
        raise BadConfig("over 1 MiB", where=str(path))
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise BadConfig(f"no JSON: {err}", where=str(path)) from err
    if not isinstance(document, dict):
        raise BadConfig("no JSON object", where=str(path))
    return Credentials(document, str(path))


def _spellings(server: str) -> tuple[str, ...]:
    """Return the keys under which Docker and its kin keep a server's entry."""
    if server in {"docker.io", "index.docker.io", "registry-1.docker.io"}:
        names = (server, "docker.io", "index.docker.io", "registry-1.docker.io")
        return (_HUB_KEY, *(spelling for name in dict.fromkeys(names) for spelling in _of_host(name)))
    return _of_host(server)


def _of_host(server: str) -> tuple[str, ...]:
    return (server, f"https://{server}", f"https://{server}/", f"https://{server}/v1/", f"https://{server}/v2/")


def _table(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise BadConfig("is no object", where=f"{where}: {key}")
    return value


def _checked(auth: object, where: str) -> str:
    """Return base64("user:password") if it is that; line ends in it are no fault (docker's decoder skips them)."""
    text = str(auth).replace("\r", "").replace("\n", "")
    try:
        user, colon, _ = base64.b64decode(text, validate=True).partition(b":")
    except binascii.Error as err:
        raise BadConfig("auth is no base64", where=where) from err
    if not colon or not user:
        raise BadConfig("auth holds no user:password", where=where)
    return text


def _ask(program: str, server: str, where: str) -> str | None:
    """Run ``program get``; None if it has nothing for ``server``."""
    try:
        result = subprocess.run(
            [program, "get"], input=server, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError as err:
        raise RegistryAuth(f"{program} is not on PATH", where=where, do="install it or remove it there") from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise RegistryAuth(f"{program} failed: {err}", where=where) from err
    if result.returncode != 0:
        if _HELPER_HAS_NONE in result.stdout + result.stderr:
            return None
        raise RegistryAuth(f"{program} failed: {result.stderr.strip() or result.returncode}", where=where)
    try:
        answer = json.loads(result.stdout)
        return _encode(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError) as err:
        raise RegistryAuth(f"{program} answered no Username and Secret", where=where) from err


def _encode(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
