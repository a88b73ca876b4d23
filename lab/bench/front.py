"""A slow way to a registry: it counts what it is asked, and answers later than the registry does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"}


@dataclass
class Front:
    """What stands before a registry.

    Attributes:
        asked: method and path of every request so far.
        delay: seconds by which each answer is later.
    """

    url: str
    delay: float
    asked: list[str] = field(default_factory=list)


@contextmanager
def before(registry: str, delay: float) -> Iterator[Front]:
    """Serve what a registry at a URL has, on another port of loopback, until the block ends."""
    import urllib3

    pool = urllib3.PoolManager(maxsize=64, block=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            front.asked.append(f"{self.command} {self.path}")
            time.sleep(front.delay)
            headers = {"Accept": self.headers.get("Accept", "*/*")}
            answer = pool.request(self.command, registry + self.path, headers=headers, redirect=False, retries=False)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        def log_message(self, *_: object) -> None:
            """Say nothing: requests are counted."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front = Front(f"http://127.0.0.1:{server.server_port}", delay)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        pool.clear()
