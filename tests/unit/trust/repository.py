"""A TUF repository of our own, in memory, served on loopback."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from securesystemslib.signer._crypto_signer import CryptoSigner
from tuf.api._payload import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.metadata import Metadata


@dataclass
class Repository:
    """Its keys, versions and files (path below its URL → content)."""

    signer: CryptoSigner = field(default_factory=CryptoSigner.generate_ecdsa)
    files: dict[str, bytes] = field(default_factory=dict)
    anchor: bytes = b""

    def publish(self, content: bytes, version: int, expires: dt.timedelta = dt.timedelta(days=1)) -> None:
        """Publish a trusted root as a version, which is good for a while from now."""
        end = (dt.datetime.now(dt.timezone.utc) + expires).replace(microsecond=0)
        if not self.anchor:
            root = Root(expires=end + dt.timedelta(days=400), consistent_snapshot=True)
            for role in ("root", "targets", "snapshot", "timestamp"):
                root.add_key(self.signer.public_key, role)
            self.anchor = self._signed(root)
        digest = hashlib.sha256(content).hexdigest()
        target = TargetFile.from_data("trusted_root.json", content, ["sha256"])
        targets = Targets(version=version, expires=end, targets={"trusted_root.json": target})
        snapshot = Snapshot(version=version, expires=end, meta={"targets.json": MetaFile(version)})
        timestamp = Timestamp(version=version, expires=end, snapshot_meta=MetaFile(version))
        self.files |= {
            f"targets/{digest}.trusted_root.json": content,
            f"{version}.targets.json": self._signed(targets),
            f"{version}.snapshot.json": self._signed(snapshot),
            "timestamp.json": self._signed(timestamp),
        }

    def _signed(self, part: Any) -> bytes:
        metadata: Metadata[Any] = Metadata(part)
        metadata.sign(self.signer)
        return metadata.to_bytes()


@contextmanager
def served(repository: Repository) -> Iterator[str]:
    """Serve a repository; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = repository.files.get(self.path.lstrip("/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
