"""bench.lookups: what is counted is what a registry was asked, and its table says of which image."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import urllib3

from countersign.console.errors import InfrastructureError
from lab.bench import lookups


class Gate:
    """Answers that an image is signed, or not, and asks a registry so many times."""

    def __init__(self, asked: list[str], allows: bool) -> None:
        self.asked, self.allows, self.number = asked, allows, 0

    def started(self, container: str, tries: int) -> dict[str, object]:
        self.number += 1
        self.asked += ["GET /"] * (1 if self.number > 1 else 5)
        return {"allow": self.allows, "source": "registry", "code": "OK" if self.allows else "UNSIGNED"}


def test_the_first_image_and_each_further_one_are_counted_apart() -> None:
    asked: list[str] = []
    found = lookups.Found()
    lookups._judge(Gate(asked, True), asked, ["a", "b", "c"], found, 5)
    case = lookups.Case("bundle", "index", "without it", "this")
    assert len(found.millis[5]) == 3
    found.millis = {0: [1.0, 2.0, 3.0], 5: [9.0, 7.0, 5.0], 50: [52.0]}
    document = lookups.document({case: found}, 3, {})
    row = dict(zip(lookups.COLUMNS, lookups.rows(document)[0], strict=True))
    assert (row["first image"], row["each further"], row["ms, at 5 ms"]) == ("5", "1.0", "7")


def test_what_is_refused_is_not_measured() -> None:
    asked: list[str] = []
    with pytest.raises(InfrastructureError, match="UNSIGNED"):
        lookups._judge(Gate(asked, False), asked, ["a"], lookups.Found(), 0)


def test_a_front_counts_and_answers_later() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/v2/there" and self.headers["Accept"] == "a/b"
            self.send_response(200 if found else 404)
            self.send_header("Docker-Content-Digest", "sha256:x")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with lookups.before(f"http://127.0.0.1:{server.server_port}", 0.05) as way, urllib3.PoolManager() as pool:
            began = time.monotonic()
            answer = pool.request("GET", f"{way.url}/v2/there", headers={"Accept": "a/b"})
            assert time.monotonic() - began >= 0.05
            assert (answer.status, answer.data, answer.headers["Docker-Content-Digest"]) == (200, b"{}", "sha256:x")
            assert pool.request("GET", f"{way.url}/v2/missing").status == 404
            assert way.asked == ["GET /v2/there", "GET /v2/missing"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
