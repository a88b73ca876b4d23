"""A provider that Gatekeeper trusts, and that answers whatever a test tells it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.gatekeeper.conftest import Place


@contextmanager
def answering(place: Place, response: Mapping[str, Any]) -> Iterator[Callable[[], int]]:
    """Answer at the provider's address until the block ends; ``KEY`` stands for the image that is asked about.

    Yields how often it was asked.
    """
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            (key,) = request["request"]["keys"]
            asked.append(key)
            document = {**request, "kind": "ProviderResponse", "response": response}
            content = json.dumps(document).replace("KEY", key).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    host, port = place.answering.split(":")
    server = ThreadingHTTPServer((host, int(port)), Answers)
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings.load_cert_chain(place.folder / "provider/tls.crt", place.folder / "provider/tls.key")
    server.socket = settings.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield lambda: len(asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
