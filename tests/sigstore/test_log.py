"""The real logs of a private Sigstore, asked for what was signed a moment ago: Rekor v1 by hash, Rekor v2 by tile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from countersign.oci.proxy import NONE
from release import log
from signing import identity
from signing.stack import token
from signing.stack.place import Stack
from tests.sigstore.signatures import WORKFLOW


class _Tiles(SimpleHTTPRequestHandler):
    """Reads of a Rekor v2: its own program leaves them to a web server in front of its files."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/api/v2"))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def tiles(stack: Stack) -> Iterator[str]:
    handler = partial(_Tiles, directory=str(stack.folder / "rekor" / "log"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("version", [1, 2])
def test_what_was_signed_is_found_and_what_was_not_is_missing(stack: Stack, tiles: str, tmp_path, version: int) -> None:
    config = identity.open_config(stack.trust_config)
    (tmp_path / "token").write_text(token.mint(stack, WORKFLOW))
    signer = identity._signer(config, identity.token(lambda: config, tmp_path / "token"), version)
    bundle = signer.sign_artifact(b"content").to_json().encode()
    (entry,) = log.entries([("file", bundle)], stack.trusted_root.read_bytes())
    assert entry.tiled is (version == 2)
    if entry.tiled:
        entry = replace(entry, log=tiles)
    assert log.look([entry], NONE) == log.Looked(("file",))
    assert list(log.look([replace(entry, body=entry.body + b" ")], NONE).missing) == ["file"]
