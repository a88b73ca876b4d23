"""Logins from files in the form that Docker's ``config.json`` and containers-auth.json(5) share.

For a repository the entry with the longest path counts, and an entry that cannot be used harms its own registry only.
The gate reads the same files to the same answers (``gate/internal/registry/credentials.go``), but runs no helper.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from countersign.oci import credential_program, login
from countersign.oci.errors import BadConfig
from countersign.oci.login import Login

_FILE_LIMIT = 1 << 20  # bytes
_MAX_NAMES = 4  # that a helper is asked for, of those a file has for one registry
_HUB = "docker.io"
_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io"})
_HUB_KEY = "https://index.docker.io/v1/"  # what docker calls Docker Hub before its helpers


@dataclass(frozen=True)
class Source:
    """What one file knows.

    Attributes:
        where: its path, for messages.
        logins: by key: host, or host/path.
        helpers: the helper of a registry, by key.
        store: the helper of all that have none of their own; or "".
        names: what a registry is called in the file, by key; helpers know it by that.
    """

    where: str
    logins: Mapping[str, Login] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def find(self, repository: str) -> Login | None:
        """Return the login that this file names for a repository, or None; an empty one is None too.

        The registry's own helper goes before entries, as in docker and podman; the helper of all goes before one
        only where the entry is empty, which is how docker marks that it has put the login there.

        Raises:
            RegistryAuth: if the entry cannot be used, or the helper fails.
        """
        leading = keys(repository)
        if helper := self.helpers.get(leading[-1]):
            return self._login(helper, leading[-1])
        entry = next((self.logins[key] for key in leading if key in self.logins), None)
        if entry is None:
            return None
        return self.stored(repository) if entry.empty else entry.usable()

    def stored(self, repository: str) -> Login | None:
        """Return what the helper of all has for a repository's registry, or None.

        Raises:
            RegistryAuth: if the helper fails.
        """
        return self._login(self.store, keys(repository)[-1]) if self.store else None

    def _login(self, helper: str, registry: str) -> Login | None:
        usual = (_HUB_KEY, _HUB) if registry == _HUB else (registry,)
        for name in dict.fromkeys((*self.names.get(registry, ())[:_MAX_NAMES], *usual)):
            if found := credential_program.get(helper, name, self.where):
                return found
        return None


@dataclass
class Credentials:
    """What several files know, the first going before the next; no file means anonymous.

    Attributes:
        used: where the logins were found that were asked for, each once, for the user to be told.
    """

    sources: Sequence[Source] = ()
    used: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The files, for messages."""
        return " or ".join(source.where for source in self.sources) or "no Docker config"

    def find(self, *repositories: str) -> Login | None:
        """Return the login for the first of some names of one repository that has any, or None.

        Args:
            repositories: "host/path": what it is called at a mirror, and then by its own registry.

        Raises:
            RegistryAuth: if what is kept for it cannot be used.
        """
        for found in self._each(repositories):
            if found:
                if found.where not in self.used:
                    self.used.append(found.where)
                return found
        return None

    def _each(self, repositories: Sequence[str]) -> Iterator[Login | None]:
        for repository in repositories:
            yield from (source.find(repository) for source in self.sources)
        for repository in repositories:
            yield from (source.stored(repository) for source in self.sources)


def load(*paths: Path) -> Credentials:
    """Read files; see ``read``.

    Raises:
        BadConfig: if one cannot be read.
    """
    return Credentials([_load(path) for path in paths])


def _load(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except OSError as err:
        raise BadConfig(f"cannot be read: {err.strerror}", where=str(path)) from err
    return read(content, str(path))


def document(content: bytes) -> Any:
    """Return a file's JSON; an empty file and null say nothing, as docker and containers/image have it.

    Raises:
        ValueError: it is not JSON.
        RecursionError: nor anything that one could read.
    """
    found = json.loads(content.decode(errors="replace")) if content.strip() else None
    return {} if found is None else found


def read(content: bytes, where: str) -> Source:
    """Read a file's content.

    Raises:
        BadConfig: if it is none of these files.
    """
    if len(content) > _FILE_LIMIT:
        raise BadConfig("over 1 MiB", where=where)
    try:
        found = document(content)
    except (ValueError, RecursionError) as err:
        raise BadConfig("no JSON", where=where) from err  # whose own words could quote a password
    if not isinstance(found, dict):
        raise BadConfig("not a JSON object", where=where)
    return _source(found, where)


def _source(document: Mapping[str, Any], where: str) -> Source:
    logins: dict[str, Login] = {}
    names: dict[str, list[str]] = {}
    auths = _table(document, "auths", where)
    for name in sorted(auths):  # of two that mean the same, always the same one counts
        found = login.read(auths[name], f"{where}: auths.{name}")
        key = normal(name)
        names.setdefault(key, []).append(name)
        if key not in logins or _rank(found) < _rank(logins[key]):
            logins[key] = found
    helpers = {}
    for name, helper in _table(document, "credHelpers", where).items():
        names.setdefault(normal(name), []).append(name)
        helpers[normal(name)] = helper if isinstance(helper, str) else repr(helper)
    store = document.get("credsStore") or ""
    if not isinstance(store, str):
        raise BadConfig("is not a string", where=f"{where}: credsStore")
    return Source(where, logins, helpers, store, names)


def normal(name: str) -> str:
    """Return a key as host or host/path. One that is a URL, as docker writes them, means its host."""
    bare = name.removeprefix("https://").removeprefix("http://")
    host, _, path = bare.partition("/")
    host = _HUB if host in _HUB_NAMES else host
    api = path.endswith("/") and path.rstrip("/") in {"v1", "v2"}
    path = path.rstrip("/")
    return host if bare != name or api or not path else f"{host}/{path}"


def _rank(found: Login) -> int:
    return 1 if found.problem else 2 if found.empty else 0


def keys(repository: str) -> list[str]:
    """Return the keys that lead to a repository, the longest first; the last is its registry."""
    parts = normal(repository).split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _table(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadConfig("is not an object", where=f"{where}: {key}")
    return value
