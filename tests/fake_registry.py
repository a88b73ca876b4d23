"""A registry in this process, small enough to be wrong on purpose: for unit tests of everything that talks to one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Reply:
    """What the server answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What the server was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


class FakeRegistry:
    """Content in memory, switches for what registries do differently, and ``faults`` for what none should.

    Attributes:
        referrers_api: whether it has the referrers API.
        auth: "", "basic" or "bearer" (user "me", password "secret").
        faults: called with every request before anything else; a Reply ends it there.
        requests: what was asked, in order.
    """

    def __init__(self, netloc: str = "") -> None:
        self.netloc = netloc
        self.scheme = "http"
        self.referrers_api = True
        self.page_size = 1000
        self.auth = ""
        self.realm = ""
        self.faults: list[Callable[[Request], Reply | None]] = []
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}

    def name(self, path: str = "demo/app") -> str:
        """Return a repository's name here."""
        return f"{self.netloc}/{path}"

    def asked(self, method: str, part: str) -> list[Request]:
        """Return the requests of a method whose path holds ``part``."""
        return [one for one in self.requests if one.method == method and part in one.path]

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        self.requests.append(request)
        for fault in self.faults:
            reply = fault(request)
            if reply is not None:
                return reply
        if request.path == "/token":
            return self._token(request)
        if self.auth and not self._authorized(request):
            challenge = 'Basic realm="fake"'
            if self.auth == "bearer":
                realm = self.realm or f"{self.scheme}://{self.netloc}/token"
                scope = "repository:demo/app:pull,push"
                challenge = f'Bearer realm="{realm}",service="fake",scope="{scope}"'
            return Reply(401, _error("UNAUTHORIZED", "log in"), {"WWW-Authenticate": challenge})
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs|referrers)/(.+|uploads/)", request.path)
        if match is None:
            return Reply(404, _error("NAME_UNKNOWN", "no such path"))
        rooms = {"manifests": self._manifests, "blobs": self._blobs, "referrers": self._referrers}
        return rooms[match[2]](request, match[1], match[3])

    def _authorized(self, request: Request) -> bool:
        wanted = {"basic": "Basic " + base64.b64encode(b"me:secret").decode(), "bearer": "Bearer token-of-me"}
        return request.headers.get("authorization") == wanted[self.auth]

    def _token(self, request: Request) -> Reply:
        if request.headers.get("authorization") != "Basic " + base64.b64encode(b"me:secret").decode():
            return Reply(401, _error("UNAUTHORIZED", "who are you"))
        return Reply(200, json.dumps({"token": "token-of-me"}).encode())

    def _manifests(self, request: Request, name: str, reference: str) -> Reply:
        if request.method == "PUT":
            media_type = request.headers["content-type"]
            digest = _digest(request.body)
            for key in {reference, digest}:
                self.manifests[name, key] = (request.body, media_type)
            return Reply(201, headers={"Docker-Content-Digest": digest})
        if (name, reference) not in self.manifests:
            return Reply(404, _error("MANIFEST_UNKNOWN", "no such manifest"))
        if request.method == "DELETE":
            del self.manifests[name, reference]
            return Reply(202)
        body, media_type = self.manifests[name, reference]
        return Reply(200, body, {"Content-Type": media_type, "Docker-Content-Digest": _digest(body)})

    def _blobs(self, request: Request, name: str, tail: str) -> Reply:
        if request.method == "POST":
            return Reply(202, headers={"Location": f"/v2/{name}/blobs/uploads/1?state=x"})
        if request.method == "PUT":
            digest = request.query["digest"][0]
            if digest != _digest(request.body):
                return Reply(400, _error("DIGEST_INVALID", "these are other bytes"))
            self.blobs[digest] = request.body
            return Reply(201)
        if tail not in self.blobs:
            return Reply(404, _error("BLOB_UNKNOWN", "no such blob"))
        return Reply(200, self.blobs[tail])

    def _referrers(self, request: Request, name: str, digest: str) -> Reply:
        if not self.referrers_api:
            return Reply(404, b"404 page not found\n", {"Content-Type": "text/plain"})
        found = []
        for (repository, reference), (body, media_type) in self.manifests.items():
            document = json.loads(body)
            if repository == name and ":" in reference and document.get("subject", {}).get("digest") == digest:
                entry = {"mediaType": media_type, "digest": reference, "size": len(body)}
                told = {
                    "artifactType": document.get("artifactType", ""),
                    "annotations": document.get("annotations", {}),
                }
                found.append(entry | told)
        start = int(request.query.get("from", ["0"])[0])
        end = start + self.page_size
        headers = {"Content-Type": OCI_INDEX}
        if end < len(found):
            headers["Link"] = f'</v2/{name}/referrers/{digest}?from={end}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[start:end]}
        return Reply(200, json.dumps(index).encode(), headers)


@contextmanager
def serving(tls: tuple[Path, Path] | None = None) -> Iterator[FakeRegistry]:
    """Run a fake registry on a free loopback port; with TLS if certificate and key are given."""
    fake = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            split = urlsplit(self.path)
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            reply = fake.answer(Request(self.command, split.path, parse_qs(split.query), headers, body))
            self.send_response(reply.status)
            for key, value in reply.headers.items():
                self.send_header(key, value)
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    fake.netloc = f"127.0.0.1:{server.server_address[1]}"
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        fake.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
