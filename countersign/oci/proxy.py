"""The proxy by which a URL is reached: ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``.

They mean what Go's programs take them for, such as the runtimes, cosign and the gate (golang.org/x/net/http/httpproxy):
capitals go before small letters, a proxy without a scheme speaks HTTP, and this machine is never reached by one.
``NO_PROXY`` lists, with commas, addresses, networks (``10.0.0.0/8``), ``.example`` or ``*.example`` (all below it),
``example`` (itself and all below it), any of the first and last with a port, or ``*`` alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from countersign.oci.errors import BadConfig
from countersign.oci.hosts import is_loopback

if TYPE_CHECKING:
    import ssl

    import urllib3

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """One proxy.

    Attributes:
        scheme: "http" or "https".
        netloc: its host and port, without a login.
        login: ``user:password``, or an empty text.
        variable: which said so.
    """

    scheme: str
    netloc: str
    login: str
    variable: str

    @property
    def url(self) -> str:
        """Its URL, without the login."""
        return f"{self.scheme}://{self.netloc}"


@dataclass(frozen=True)
class Proxies:
    """What the environment says of proxies.

    Attributes:
        by_scheme: scheme of what is to be reached → proxy.
        no_proxy: as the variable has it.
    """

    by_scheme: Mapping[str, Proxy]
    no_proxy: str = ""

    def of(self, url: str) -> Proxy | None:
        """Return the proxy by which a URL is to be reached; None: directly."""
        split = urlsplit(url)
        proxy = self.by_scheme.get(split.scheme)
        host = (split.hostname or "").lower()
        if proxy is None or is_loopback(split.netloc):
            return None
        port = split.port or _PORTS[split.scheme]
        entries = [entry.strip().lower() for entry in self.no_proxy.split(",")]
        return None if any(_covers(entry, host, port) for entry in entries if entry) else proxy


NONE = Proxies({})


def from_environment(environ: Mapping[str, str]) -> Proxies:
    """Read the variables.

    Raises:
        BadConfig: one of them is not a proxy that can be used; a login in it is not shown.
    """

    def value(name: str) -> str:
        return environ.get(name) or environ.get(name.lower()) or ""

    variables = {"https": "HTTPS_PROXY", "http": "HTTP_PROXY"}
    found = {scheme: _proxy(value(name), name) for scheme, name in variables.items() if value(name)}
    return Proxies(found, value("NO_PROXY"))


def connections(context: ssl.SSLContext | None, proxy: Proxy | None) -> urllib3.PoolManager:
    """Return connections to servers, with TLS as ``context`` has it, by a proxy if there is one."""
    import ssl

    import urllib3

    if proxy is None:
        return urllib3.PoolManager(maxsize=8, ssl_context=context)
    return urllib3.ProxyManager(
        proxy.url,
        proxy_headers=urllib3.make_headers(proxy_basic_auth=proxy.login) if proxy.login else None,
        proxy_ssl_context=ssl.create_default_context() if proxy.scheme == "https" else None,
        maxsize=8,
        ssl_context=context,
    )


def _proxy(text: str, variable: str) -> Proxy:
    try:
        split = urlsplit(text if "://" in text else f"http://{text}")
        host, port = split.hostname, split.port
    except ValueError:
        split, host, port = SplitResult("", "", "", "", ""), None, None
    if split.scheme not in _PORTS or not host:
        what = f"{split.scheme} is not supported" if host else "is not a URL of a proxy"
        raise BadConfig(
            what, where=variable, expected="http://HOST:PORT or https://HOST:PORT", do="correct or unset it"
        )
    login = unquote(split.netloc.rpartition("@")[0])
    netloc = f"{f'[{host}]' if ':' in host else host}:{port or _PORTS[split.scheme]}"
    return Proxy(split.scheme, netloc, login, variable)


def _covers(entry: str, host: str, port: int) -> bool:
    """Say whether one entry of ``NO_PROXY`` covers a host and port."""
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, only = entry.rpartition(":")
    if colon and only.isdecimal() and (name.endswith("]") or ":" not in name):
        if int(only) != port:
            return False
        entry = name.strip("[]")
    if own := _address(entry):
        return own == address
    if entry.startswith("*."):
        entry = entry[1:]
    return host.endswith(entry) if entry.startswith(".") else host == entry or host.endswith(f".{entry}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
