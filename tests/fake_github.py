"""GitHub's releases, as far as publishing needs them, with calls that fail before or after their work is done."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-of-the-workflow"


@dataclass
class FakeGitHub:
    """Releases and tags of the repository ``acme/app``.

    Attributes:
        url: of the API.
        uploads: where files go; empty for the API's own host.
        releases: number → release, with its ``assets``.
        tags: the tags of git.
        scans: what code scanning was given; None where the repository has it off.
        calls: method and path of each, in order.
        fail_at: which call fails, from 0; -1 for none.
        after: it fails when its work is done: only the answer is lost.
        stays_broken: all calls after it fail, too.
    """

    url: str = ""
    uploads: str = ""
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    scans: list[dict[str, Any]] | None = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    fail_at: int = -1
    after: bool = False
    stays_broken: bool = False

    def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Return status and document."""
        number = len(self.calls)
        split = urlsplit(url)
        self.calls.append(f"{method} {split.path}")
        fails = number == self.fail_at or (self.stays_broken and number > self.fail_at >= 0)
        if fails and not self.after:
            return 502, {"message": "broken"}
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Bad credentials"}
        done = self._do(method, split.path.removeprefix("/repos/acme/app"), parse_qs(split.query), body)
        return (502, {"message": "broken"}) if fails else done

    def _do(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        if method == "GET" and path == "/releases":
            return 200, list(self.releases.values()) if query["page"] == ["1"] else []
        if method == "POST" and path == "/releases":
            number = len(self.releases) + 1
            uploads = f"{self.uploads or self.url}/repos/acme/app/releases/{number}/assets{{?name,label}}"
            self.releases[number] = {**json.loads(body), "id": number, "upload_url": uploads, "assets": {}}
            return 201, self.releases[number]
        if method == "POST" and path == "/code-scanning/sarifs":
            return self._scanned(json.loads(body))
        if match := re.fullmatch(r"/git/refs?/tags/(.+)", path):
            return self._tag(method, match[1])
        match = re.fullmatch(r"/releases/([0-9]+)(/assets)?", path)
        if not match or int(match[1]) not in self.releases:
            return 404, {"message": "Not Found"}
        release = self.releases[int(match[1])]
        if method == "DELETE":
            del self.releases[int(match[1])]
        elif match[2]:
            release["assets"][query["name"][0]] = body
        else:
            release.update(json.loads(body))
            self.tags |= set() if release["draft"] else {release["tag_name"]}
        return 200, None

    def _scanned(self, given: dict[str, Any]) -> tuple[int, Any]:
        if self.scans is None:
            return 403, {"message": "Advanced Security must be enabled for this repository to use code scanning."}
        self.scans.append(given)
        return 202, {"id": "47177e22", "url": f"{self.url}/repos/acme/app/code-scanning/sarifs/47177e22"}

    def _tag(self, method: str, tag: str) -> tuple[int, Any]:
        if tag not in self.tags:
            return 404, {"message": "Not Found"}
        if method == "DELETE":
            self.tags.discard(tag)
        return 200, {"ref": f"refs/tags/{tag}"}


@contextmanager
def serving() -> Iterator[FakeGitHub]:
    """Run it on a free loopback port."""
    fake = FakeGitHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def _serve(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            status, document = fake.answer(self.command, self.path, headers, body)
            content = b"" if document is None else json.dumps(document, default=lambda _: "bytes").encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
