"""Bounded HTTP to one registry server: TLS, authentication, redirects, deadlines.

Written on urllib3 (what requests and oras stand on) because here every body has a bound, every request a deadline,
every CA is added to the system's store instead of replacing it, and credentials go to no other host.
Implements the 401 flows of "Docker Registry v2 authentication via central service" (bearer) and RFC 7617 (basic).
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from countersign.console.errors import cause
from countersign.oci.credentials import Credentials
from countersign.oci.errors import BadConfig, Malformed, RegistryAuth, RegistryError, RegistryUnreachable
from countersign.oci.hosts import Host, is_loopback
from countersign.oci.login import Login
from countersign.oci.messages import SMALL, Answer, Request
from countersign.oci.proxy import NONE, Proxies, Proxy, connections

_TIMEOUT = urllib3.Timeout(connect=5, read=30)  # seconds
_DEADLINE = 120  # seconds for one answer's body
_SLOWEST = 256 << 10  # bytes a second of what goes into a file
_CHUNK = 64 << 10
_MAX_REDIRECTS = 5
_CONNECTION_RE = re.compile(r"^HTTPS?Connection(?:Pool)?\(.*?\): ")  # how urllib3 begins its messages
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Transport:
    """Sends requests; keeps connections and tokens for as long as it lives.

    Args:
        allow_http: allow plain HTTP beyond loopback, for redirects and token servers too.
        proxies: by which servers are reached.
    """

    def __init__(self, credentials: Credentials, *, allow_http: bool, proxies: Proxies = NONE) -> None:
        self._credentials = credentials
        self._allow_http = allow_http
        self._proxies = proxies
        self._pools: dict[tuple[str, tuple[Path, ...], Proxy | None], urllib3.PoolManager] = {}
        self._authorization: dict[tuple[str, str], str] = {}

    @property
    def used(self) -> list[str]:
        """Where the logins were found that registries have asked for."""
        return self._credentials.used

    def send(self, host: Host, repository: str, request: Request) -> Answer:
        """Send one request; answer a challenge once.

        Args:
            host: the server that is configured for the registry.
            repository: what is accessed: tokens are kept for it.
            request: to this server, or to where it sent us (an upload's Location).

        Raises:
            RegistryUnreachable: no answer in time, or none at all.
            RegistryAuth: 401 or 403 in the end.
            Malformed: a body over its bound.
            RegistryError: redirects without end or to where we must not go.
        """
        key = (host.netloc, repository)
        answer = self._follow(host, request, self._authorization.get(key))
        if answer.status == HTTPStatus.UNAUTHORIZED and _same_origin(answer.url, host):
            self._authorization[key] = self._answer_challenge(host, answer, repository)
            answer = self._follow(host, request, self._authorization[key])
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise RegistryAuth(
                f"{answer.status} for {request.method} {urlsplit(answer.url).path}{_reason(answer)}",
                where=urlsplit(answer.url).netloc,
                expected=f"credentials that may do so in {self._credentials.where}",
            )
        return answer

    def _follow(self, host: Host, request: Request, authorization: str | None) -> Answer:
        """Send, following redirects of GET and HEAD; other hosts get no Authorization."""
        for _ in range(_MAX_REDIRECTS + 1):
            self._check_scheme(request.url, host)
            login = {"Authorization": authorization} if authorization and _same_origin(request.url, host) else {}
            answer = self._once(host, replace(request, headers={**request.headers, **login}))
            if answer.status not in _REDIRECTS or request.method not in {"GET", "HEAD"}:
                return answer
            request = replace(request, url=answer.absolute(answer.headers.get("Location", "")))
        raise RegistryError(f"more than {_MAX_REDIRECTS} redirects", where=host.netloc)

    def _once(self, host: Host, request: Request) -> Answer:
        """Send one request and read its answer within the bounds."""
        if request.body is not None and not isinstance(request.body, bytes):
            request.body.seek(0)
        try:
            response = self._pool(request.url, host).request(
                request.method,
                request.url,
                headers=request.headers,
                body=request.body,
                timeout=_TIMEOUT,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                content = _read(response, request)
            except BaseException:
                response.close()  # what is left unread must not be taken for the next answer
                raise
            response.release_conn()
        except HTTPError as err:
            raise _unreachable(err, host, request.url, self._proxies.of(request.url)) from err
        return Answer(response.status, response.headers, content, request.url)

    def _pool(self, url: str, host: Host) -> urllib3.PoolManager:
        """Return the connections for a URL's scheme and proxy, with the host's CAs."""
        key = (urlsplit(url).scheme, host.ca, self._proxies.of(url))
        if key not in self._pools:
            context = _tls(host) if key[0] == "https" else None
            self._pools[key] = connections(context, key[2])
        return self._pools[key]

    def _check_scheme(self, url: str, host: Host) -> None:
        split = urlsplit(url)
        plain = split.scheme == "http" and (self._allow_http or is_loopback(split.netloc))
        if split.scheme != "https" and not plain:
            raise RegistryError(f"sends us to {url}", where=host.netloc, expected="https")

    def _answer_challenge(self, host: Host, answer: Answer, repository: str) -> str:
        """Return the Authorization value that a 401 asks for."""
        scheme, fields = _challenge(answer, host)
        login = self._credentials.find(*_names(host, repository))
        if login and login.bearer:
            return f"Bearer {login.bearer}"
        if scheme == "bearer":
            return "Bearer " + self._token(host, _token_request(answer, fields, repository, login))
        if login is None:
            raise RegistryAuth(
                f"the registry wants a login and there is none for {host.registry}/{repository}",
                where=self._credentials.where,
                do=f"log in to {host.registry}, or name the file that has the login as registry.docker_config",
            )
        if login.refresh:
            raise RegistryAuth(f"{host.netloc} takes a password, not an identity token", where=login.where)
        return f"Basic {login.basic()}"

    def _token(self, host: Host, request: Request) -> str:
        """Fetch a bearer token from the realm that a challenge names."""
        self._check_scheme(request.url, host)
        realm = request.url.partition("?")[0]
        answer = self._once(host, request)
        if answer.status != HTTPStatus.OK:
            raise RegistryAuth(
                f"{answer.status} from the token server{_reason(answer)}",
                where=realm,
                expected=f"a login that it takes in {self._credentials.where}",
            )
        try:
            document = json.loads(answer.body)
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError, RecursionError) as err:
            raise RegistryError("the token server's answer is not a JSON object", where=realm) from err
        if not isinstance(token, str) or not token.isprintable():
            raise RegistryError("the token server's answer has no token", where=realm)
        return token


def _names(host: Host, repository: str) -> tuple[str, str]:
    """Return what a repository is called at the server, which may keep it below a path, and by its registry."""
    return f"{host.netloc}{host.path.removeprefix('/v2')}/{repository}", f"{host.registry}/{repository}"


def _token_request(answer: Answer, fields: Mapping[str, str], repository: str, login: Login | None) -> Request:
    """Return the request for a token: by POST with an identity token, as a refresh token is used; else by GET.

    "Token Authentication Specification" and "OAuth2 Token Authentication" of distribution.
    """
    if not fields.get("realm"):
        raise RegistryAuth("401 with the challenge 'Bearer' without a realm", where=answer.url, expected="one")
    realm = answer.absolute(fields["realm"])
    asked = {"service": fields.get("service"), "scope": fields.get("scope") or f"repository:{repository}:pull"}
    query = {name: value for name, value in asked.items() if value}
    if login and login.refresh:
        form = {"grant_type": "refresh_token", "client_id": "countersign", "refresh_token": login.refresh, **query}
        return Request("POST", realm, _FORM, urlencode(form).encode())
    url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(query)
    return Request("GET", url, {"Authorization": f"Basic {login.basic()}"} if login else {})


def _tls(host: Host) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for file in host.ca:
        _add_ca(context, file)
    return context


def _add_ca(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except OSError as err:  # ssl.SSLError is one
        raise BadConfig(f"cannot be used as a CA: {err}", where=str(file), expected="PEM certificates") from err


def _same_origin(url: str, host: Host) -> bool:
    split = urlsplit(url)
    return (split.scheme, split.netloc) == (host.scheme, host.netloc)


def _read(response: urllib3.BaseHTTPResponse, request: Request) -> bytes:
    """Read a body within its bound and before the deadline."""
    brings = response.status == HTTPStatus.OK
    limit = request.limit if brings else SMALL
    seconds = _DEADLINE
    into = request.into if brings else None
    if into is not None:
        seconds += limit // _SLOWEST
        into.seek(0)
        into.truncate()
    end = time.monotonic() + seconds
    content, size = bytearray(), 0
    # what has come, not a whole chunk: a body that trickles would hold the deadline off
    for chunk in iter(lambda: response.read1(_CHUNK, decode_content=False), b""):
        size += len(chunk)
        if size > limit:
            raise Malformed(f"an answer of more than {limit} bytes", where=request.url)
        if time.monotonic() > end:
            raise RegistryUnreachable(f"no whole answer in {seconds} s", where=request.url)
        if into is None:
            content += chunk
        else:
            into.write(chunk)
    return bytes(content)


def _unreachable(err: HTTPError, host: Host, url: str, proxy: Proxy | None) -> RegistryUnreachable:
    text = _CONNECTION_RE.sub("", cause(getattr(err, "reason", None) or _said(err)))
    do = f"name its CA in hosts.toml of {host.registry}" if "certificate verify failed" in text else ""
    if proxy:
        text = f"{text}; asked by the proxy {proxy.url} of {proxy.variable}"
        do = do or f"correct {proxy.variable}, or name what is to be asked directly in NO_PROXY"
    return RegistryUnreachable(text, where=urlsplit(url).netloc, do=do)


def _said(err: Exception) -> str:
    """Return an error's words in a row: urllib3 puts a cause behind its message, which would show as a tuple."""
    words = [str(word) for word in err.args] or [str(err)]
    return ": ".join(word for at, word in enumerate(words) if not any(word in earlier for earlier in words[:at]))


def _challenge(answer: Answer, host: Host) -> tuple[str, dict[str, str]]:
    """Return the scheme, in lower case, and the fields of WWW-Authenticate."""
    from urllib.request import parse_http_list, parse_keqv_list

    scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
    try:
        fields = parse_keqv_list(parse_http_list(rest))
    except ValueError:
        fields = {}
    if scheme.lower() not in {"basic", "bearer"}:
        raise RegistryAuth(f"401 with the challenge {scheme!r}", where=host.netloc, expected="Basic or Bearer")
    return scheme.lower(), fields


def _reason(answer: Answer) -> str:
    """Return ": CODE: message" of the distribution specification's error body, or nothing."""
    try:
        first = json.loads(answer.body)["errors"][0]
        return f": {first['code']}: {str(first.get('message', ''))[:200]}"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ""
