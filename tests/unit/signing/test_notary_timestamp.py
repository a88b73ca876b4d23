"""Timestamps over signatures: asked of an authority, and taken only if they are of one that is trusted."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from countersign.console.errors import InfrastructureError
from countersign.keys import issue
from countersign.oci.descriptor import Descriptor
from lab.trials import notaries
from signing import notary, notary_options, notation
from signing.notary import Options
from signing.notary_options import NoTimestamp
from signing.timestamp import Server

Answer = Callable[[bytes], tuple[int, bytes]]
TARGET = Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "a" * 64, 7)
CONFIG = """[tsa]
default_policy = 1.2.3
serial = {folder}/serial
signer_digest = sha256
digests = sha256
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class Authority:
    """A timestamp authority: openssl signs, with a certificate of a new root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        root = notaries.make("root of timestamps")
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        leaf = root.issue("timestamps", key).chain[0]
        builder = x509.CertificateBuilder(
            leaf.issuer, leaf.subject, key.public_key(), 7, leaf.not_valid_before_utc, leaf.not_valid_after_utc
        )
        made = builder.add_extension(usage, critical=True).sign(root._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "tsa.key").write_bytes(private)
        (folder / "tsa.pem").write_text(issue.pem(made))
        (folder / "root.pem").write_text(root.pem)
        (folder / "openssl.cnf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")

    def answer(self, query: bytes) -> tuple[int, bytes]:
        """Sign what is asked."""
        (self.folder / "query").write_bytes(query)
        words = ["-config", "openssl.cnf", "-section", "tsa", "-queryfile", "query", "-signer", "tsa.pem"]
        argv = ["openssl", "ts", "-reply", *words, "-inkey", "tsa.key", "-out", "reply"]
        subprocess.run(argv, cwd=self.folder, check=True, capture_output=True)
        return 200, (self.folder / "reply").read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to sign timestamps with")
    return Authority(tmp_path_factory.mktemp("tsa") / "one")


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """Serve an authority on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, content = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_signature_is_stamped(authority: Authority) -> None:
    signer = notaries.make().issue()
    with served(authority.answer) as url:
        options = Options(timestamp=partial(notary_options.token, Server(url), authority.folder / "root.pem"))
        key = signer.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made = notary.by_key(key, "key", signer.chain, Path("chain"), options).make(TARGET)
    found = notary.checked(made, TARGET, "test")
    (authority.folder / "token").write_bytes(found.timestamp)
    (authority.folder / "signed").write_bytes(found.signature)
    words = ["-token_in", "-in", "token", "-data", "signed", "-CAfile", "root.pem", "-untrusted", "tsa.pem"]
    done = subprocess.run(
        ["openssl", "ts", "-verify", *words], cwd=authority.folder, capture_output=True, text=True, check=False
    )
    assert "Verification: OK" in done.stdout, done.stderr
    assert notation.parse(notation.stamped(made, b"other")).timestamp == b"other"


def test_only_a_trusted_authority_over_this_signature_counts(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")

    def ask(answer: Answer, roots: Path = authority.folder / "root.pem") -> bytes:
        with served(answer) as url:
            return notary_options.token(Server(url), roots, b"signature")

    assert ask(authority.answer)
    _, old = authority.answer((authority.folder / "query").read_bytes())
    for answer, roots in ((other.answer, authority.folder / "root.pem"), (authority.answer, other.folder / "root.pem")):
        with pytest.raises(NoTimestamp, match="not a timestamp that counts"):
            ask(answer, roots)
    with pytest.raises(InfrastructureError, match="a timestamp of something else"):
        ask(lambda _: (200, old))
