"""Where a registry really is: containerd's ``certs.d/<host>/hosts.toml``.

The same files serve the runtime, the gate and this client. Read are ``server``, ``host``, ``capabilities``, ``ca``,
``override_path`` and ``dial_timeout`` (the last has no effect here: every request has a deadline anyway). What would
change whom we trust or what we send (``skip_verify``, ``client``, ``header``) is refused instead of ignored. A folder
without that file has CAs as Docker's does (``*.crt``).
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from countersign.oci.errors import BadConfig

_CAPABILITIES = frozenset({"pull", "resolve", "push", "referrers"})
_HOST_KEYS = frozenset({"capabilities", "ca", "override_path", "dial_timeout", "skip_verify"})
_FILE_LIMIT = 1 << 20  # bytes
_DOCKER_HUB = "registry-1.docker.io"


@dataclass(frozen=True)
class Host:
    """One server that can stand for a registry.

    Attributes:
        registry: the registry's name in references.
        scheme: "https" or "http".
        netloc: the server's host and port.
        path: the API's root ("/v2").
        capabilities: what it may be asked.
        ca: PEM files trusted beside the system's store.
    """

    registry: str
    scheme: str
    netloc: str
    path: str = "/v2"
    capabilities: frozenset[str] = _CAPABILITIES
    ca: tuple[Path, ...] = ()

    @property
    def url(self) -> str:
        """The API's root as a URL."""
        return f"{self.scheme}://{self.netloc}{self.path}"


def is_loopback(netloc: str) -> bool:
    """Say whether ``host[:port]`` is this machine: localhost or a loopback address."""
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def hosts_of(registry: str, hosts_dir: Path | None, *, allow_http: bool) -> list[Host]:
    """Return the servers to ask for ``registry``, in order; the last is the registry itself.

    Args:
        registry: the domain of a reference.
        hosts_dir: the certs.d folder, or None.
        allow_http: allow plain HTTP to other machines.

    Raises:
        BadConfig: if a file cannot be read or asks for something that is refused.
    """
    folder = _folder(registry, hosts_dir)
    path = folder / "hosts.toml" if folder else None
    if path and path.is_file() and path.stat().st_size:
        hosts = _read(registry, path)
    else:
        hosts = [_with_cas(_default(registry), folder) if folder else _default(registry)]
    for host in hosts:
        if host.scheme == "http" and not allow_http and not is_loopback(host.netloc):
            raise BadConfig(
                f"plain HTTP to {host.netloc}",
                where=str(path),
                expected="https, or a loopback address",
                do="set registry.allow_http in invoke.yaml if you trust the network in between",
            )
    return hosts


def _folder(registry: str, hosts_dir: Path | None) -> Path | None:
    """Return the folder of ``registry``; one called host_port_ goes before host:port, _default is last."""
    if hosts_dir is None:
        return None
    name, colon, port = registry.rpartition(":")
    folders = [f"{name}_{port}_"] if colon and name else []
    return next((hosts_dir / each for each in (*folders, registry, "_default") if (hosts_dir / each).is_dir()), None)


def _with_cas(host: Host, folder: Path) -> Host:
    """Return a host with the CAs of a folder that has no hosts.toml: Docker's form, ``*.crt``.

    A registry on loopback speaks TLS then.
    """
    if client := next(iter(sorted(folder.glob("*.cert"))), None):
        raise BadConfig("client certificates are not supported", where=str(client), expected="CAs, as *.crt")
    cas = tuple(sorted(file for file in folder.glob("*.crt") if file.is_file()))
    return replace(host, ca=cas, scheme="https") if cas else host


def _default(registry: str) -> Host:
    """Return the registry as its own server, as containerd has it without a file."""
    if registry == "docker.io":
        return Host(registry, "https", _DOCKER_HUB)
    port = _split(f"https://{registry}", registry).port
    plain = is_loopback(registry) and port not in {None, 443}
    return Host(registry, "http" if plain else "https", registry)


def _read(registry: str, path: Path) -> list[Host]:
    document = _load(path)
    tables = document.pop("host", {})
    if not isinstance(tables, dict):
        raise BadConfig("host is not a table", where=str(path))
    hosts = [_host(registry, url, table, path) for url, table in tables.items()]
    server = document.pop("server", "") or _default(registry).url
    return [*hosts, _host(registry, server, document, path)]


def _load(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
        if len(content) > _FILE_LIMIT:
            raise BadConfig("over 1 MiB", where=str(path))
        return tomllib.loads(content.decode())
    except OSError as err:
        raise BadConfig(f"cannot be read: {err.strerror}", where=str(path)) from err
    except ValueError as err:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise BadConfig(f"no TOML: {err}", where=str(path)) from err


def _host(registry: str, url: object, table: object, path: Path) -> Host:
    """Read one server's URL and its table; the file's own keys are the table of ``server``."""
    where = f"{path}: {url}"
    if not isinstance(url, str) or not isinstance(table, Mapping):
        raise BadConfig("is not a URL with a table of settings", where=where)
    unknown = sorted(set(table) - _HOST_KEYS)
    if unknown or table.get("skip_verify"):
        name = unknown[0] if unknown else "skip_verify"
        expected = ", ".join(sorted(_HOST_KEYS - {"skip_verify"}))
        raise BadConfig(f"{name} is not supported", where=where, expected=expected)
    split = _split(url if "://" in url else f"https://{url}", where)
    root = split.path.rstrip("/")
    if not table.get("override_path") and not root.endswith("/v2"):
        root += "/v2"
    return Host(registry, split.scheme, split.netloc, root, _capabilities(table, where), _ca(table, path.parent, where))


def _split(url: str, where: str) -> SplitResult:
    """Split a server's URL."""
    try:
        split = urlsplit(url)
        host, _ = split.hostname, split.port  # checked only when they are asked for
    except ValueError as err:
        raise BadConfig(f"is not a URL: {err}", where=where) from err
    if split.scheme not in {"http", "https"} or not host or "@" in split.netloc or split.query:
        raise BadConfig("is not an http or https URL", where=where)
    return split


def _capabilities(table: Mapping[str, Any], where: str) -> frozenset[str]:
    values = table.get("capabilities") or list(_CAPABILITIES)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BadConfig(f"capabilities = {values!r}", where=where, expected="a list of strings")
    if unknown := sorted(set(values) - _CAPABILITIES):
        raise BadConfig(f"unknown capability {unknown[0]}", where=where, expected=", ".join(sorted(_CAPABILITIES)))
    return frozenset(values)


def _ca(table: Mapping[str, Any], folder: Path, where: str) -> tuple[Path, ...]:
    """Return the CA files; relative ones lie beside the hosts.toml."""
    values = table.get("ca", [])
    files = [values] if isinstance(values, str) else values
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise BadConfig(f"ca = {values!r}", where=where, expected="a PEM file or a list of them")
    return tuple(folder / file for file in files)
