"""A Sigstore in this process, for unit tests of signers: an authority and a Rekor v1."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from lab.trials import authority
from lab.trials.authority import Authority
from tests.fake_registry import FakeRegistry, Reply, Request, serving

SUBJECT, ISSUER = "release@acme.example", "https://issuer.acme.example"


@dataclass
class FakeSigstore:
    """What it certifies and logs is good under its trusted root.

    Attributes:
        server: what answers; ``faults`` may be added.
        ca: the authority.
        certified: how many certificates were asked for.
        logged: the kinds of entries, in order.
    """

    server: FakeRegistry
    ca: Authority
    certified: int = 0
    logged: list[str] = field(default_factory=list)

    def config(self, folder: Path, rekor: int = 1) -> Path:
        """Write the client trust config, with a Rekor of that version."""
        url = f"http://{self.server.netloc}"
        valid = {"validFor": {"start": "2020-01-01T00:00:00Z"}, "operator": "fake"}
        services = {name: [{"url": url, "majorApiVersion": 1, **valid}] for name in ("caUrls", "oidcUrls")}
        log = {"url": url, "majorApiVersion": rekor, **valid}
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            **services,
            "rekorTlogUrls": [log],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [],
            "tsaConfig": {"selector": "ANY"},
        }
        document = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.ca.trusted_root(),
            "signingConfig": signing,
        }
        path = folder / "trust_config.json"
        path.write_text(json.dumps(document))
        return path

    def answer(self, request: Request) -> Reply | None:
        """Answer as Fulcio and Rekor v1 do."""
        if request.path == "/api/v2/signingCert":
            return self._certify(json.loads(request.body))
        if request.path == "/api/v1/log/entries":
            return self._log(json.loads(request.body))
        return None

    def _certify(self, asked: Mapping[str, Any]) -> Reply:
        self.certified += 1
        csr = x509.load_pem_x509_csr(base64.b64decode(asked["certificateSigningRequest"]))
        public = csr.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        leaf = self.ca.certify(public, x509.RFC822Name(SUBJECT), ISSUER)
        chain = [authority.Signer(self.ca.issue(x509.RFC822Name("x")).key, leaf).pem, self.ca.pem]
        return _json({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})

    def _log(self, asked: Mapping[str, Any]) -> Reply:
        self.logged.append(asked["kind"])
        spec = asked["spec"] if asked["kind"] == "hashedrekord" else _dsse(asked["spec"]["proposedContent"])
        entry = self.ca.log(asked["kind"], spec)
        proof = entry["inclusionProof"]
        verification = {
            "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "inclusionProof": {
                "logIndex": 0,
                "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                "treeSize": 1,
                "hashes": [],
                "checkpoint": proof["checkpoint"]["envelope"],
            },
        }
        answer = {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logID": base64.b64decode(entry["logId"]["keyId"]).hex(),
            "logIndex": 0,
            "verification": verification,
        }
        return _json({"0" * 64: answer}, 201)


def _dsse(proposed: Mapping[str, Any]) -> dict[str, Any]:
    envelope = json.loads(proposed["envelope"])
    signature = {"signature": envelope["signatures"][0]["sig"], "verifier": proposed["verifiers"][0]}
    return {
        "envelopeHash": _hash(proposed["envelope"].encode()),
        "payloadHash": _hash(base64.b64decode(envelope["payload"])),
        "signatures": [signature],
    }


def _hash(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _json(document: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


def token(lasts: int = 600, **claims: object) -> str:
    """Return an identity token that nobody has signed: the fake asks for no more."""
    now = int(time.time())
    said = {"iss": ISSUER, "sub": SUBJECT, "aud": "sigstore", "iat": now - 700, "exp": now + lasts, **claims}
    parts = ({"alg": "ES256", "typ": "JWT"}, said)
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{head}.{body}.c2lnbmF0dXJl"


@contextmanager
def sigstore() -> Iterator[FakeSigstore]:
    """Run one until the block ends."""
    with serving() as server:
        found = FakeSigstore(server, authority.make())
        server.faults.append(found.answer)
        yield found
