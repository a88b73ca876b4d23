"""The services of a private Sigstore: files, programs, and the steps that make and start them."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.console.steps import Step
from countersign.nodes import service
from countersign.nodes.host import HostNode
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Running
from signing.stack.place import AUDIENCE, HOST, Stack

TOOLS = ("sigstore-services", "rekor-server", "ct-server")
NAMES = ("issuer", "ct", "fulcio", "rekor", "rekor-v1", "timestamps")
"""The services, in the order of their start: Fulcio asks the issuer and the log of certificates."""
LISTENERS = {name: (name, "rekor-grpc", "rekor-metrics") if name == "rekor" else (name,) for name in NAMES}
_TEMPLATE = Path(__file__).resolve().parent / "fulcio.yaml.j2"
_ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_SDK_DISABLED": "true"}

_CREATED = 201
_SECONDS = 10


@dataclass(frozen=True)
class FirstEntry:
    """The step that logs the first entry of a new Rekor v2, our own, of nothing.

    Clients leave zeros out of JSON, and sigstore-python (4.5.1) reads no entry without its index: whoever signed first
    would have a signature that it refuses.
    """

    stack: Stack

    name = "the log's first entry"

    def needed(self) -> bool:
        """Return whether the log has none: its checkpoint names its size in the second line (C2SP tlog-checkpoint)."""
        try:
            checkpoint = (self.stack.folder / "rekor" / "log" / "checkpoint").read_text(encoding="utf-8")
        except FileNotFoundError:
            return True
        return checkpoint.splitlines()[1:2] in ([], ["0"])

    def apply(self) -> None:
        """Log it.

        Raises:
            InfrastructureError: the log does not take it.
        """
        import urllib3

        url = f"{self.stack.url('rekor')}/api/v2/log/entries"
        headers = {"Content-Type": "application/json"}
        with urllib3.PoolManager(retries=False, timeout=_SECONDS) as client:
            try:
                answer = client.request("POST", url, body=_request(), headers=headers)
            except urllib3.exceptions.HTTPError as error:
                raise InfrastructureError(str(error), where=url) from error
        if answer.status != _CREATED:
            raise InfrastructureError(
                f"got {answer.status}: {answer.data[:200].decode(errors='replace')}", where=url, expected=str(_CREATED)
            )


def _request() -> bytes:
    """Return a request for an entry (Rekor v2, ``HashedRekordRequestV002``), with a key that is then forgotten."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from signing.stack.certificates import new_key, public_der

    key, content = new_key(), b""
    verifier = {"publicKey": {"rawBytes": _b64(public_der(key))}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    signature = {"content": _b64(key.sign(content, ec.ECDSA(hashes.SHA256()))), "verifier": verifier}
    entry = {"digest": _b64(hashlib.sha256(content).digest()), "signature": signature}
    return json.dumps({"hashedRekordRequestV002": entry}).encode()


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@dataclass(frozen=True)
class Made:
    """The step that makes all keys, certificates and documents, once."""

    stack: Stack

    @property
    def name(self) -> str:
        """What users read."""
        return f"keys, certificates and trusted root ({self.stack.folder})"

    def needed(self) -> bool:
        """Return whether they are not all there."""
        return not self.stack.kept_at.is_file()

    def apply(self) -> None:
        """Make them, and write last what says that they are there."""
        here = HostNode()
        files = make(self.stack, dt.datetime.now(dt.timezone.utc).replace(microsecond=0))
        Group(here, self.name, files).apply()
        File(here, str(self.stack.kept_at), self.stack.kept(), 0o600).apply()


def make(stack: Stack, now: dt.datetime) -> list[File]:
    """Return all files of a new private Sigstore; what is secret has the mode 0600."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    from countersign.nodes.template import render
    from signing.stack import certificates, documents, token

    authority, timestamps = certificates.authority(now), certificates.timestamps(now)
    issuer = certificates.new_key()
    logs: dict[str, certificates.Key] = {
        "ct": certificates.new_key(),
        "rekor": ed25519.Ed25519PrivateKey.generate(),
        "rekor-v1": certificates.new_key(),
    }
    config = render(_TEMPLATE, mail_issuer=stack.mail_issuer, workflow_issuer=stack.workflow_issuer, audience=AUDIENCE)
    root = documents.trusted_root(stack, now, authority, timestamps, logs)
    signing = documents.signing_config(stack, now)
    keys = {"issuer": issuer, "fulcio": authority.key, "timestamps": timestamps.key, **logs}
    return [
        *(_file(stack, f"{name}/key.pem", certificates.private_pem(key), 0o600) for name, key in keys.items()),
        _file(stack, "issuer/keys.json", token.key_set(issuer)),
        _file(stack, "ct/roots.pem", authority.pem),
        _file(stack, "fulcio/chain.pem", authority.pem),
        _file(stack, "fulcio/ct.pem", certificates.public_pem(logs["ct"])),
        _file(stack, "fulcio/config.yaml", config),
        _file(stack, "timestamps/chain.pem", timestamps.pem),
        _file(stack, "trust/trusted_root.json", _json(root)),
        _file(stack, "trust/signing_config.json", _json(signing)),
        _file(stack, "trust/trust_config.json", _json(documents.trust_config(root, signing))),
    ]


def services(stack: Stack, programs: Mapping[str, Path]) -> list[Service]:
    """Return the services, in the order of their start.

    Args:
        programs: a path for each of ``TOOLS``.
    """
    return [
        Service(
            name=name,
            argv=argv,
            run=str(stack.run),
            log=str(stack.folder / "log" / f"{name}.log"),
            env={"HOME": str(stack.folder), **_ENVIRONMENT},
            ready=f"tcp:{HOST}:{stack.ports[name]}",
            inputs={str(path): "" for path in _inputs(stack, name)},
        )
        for name, argv in _commands(stack, {tool: str(path) for tool, path in programs.items()}).items()
    ]


def steps(stack: Stack, programs: Mapping[str, Path]) -> list[Step]:
    """Return the steps that make the private Sigstore, if it is not made yet, and have all its services run."""
    names = ("run", "log", "trust", *NAMES, "ct/log", "rekor/log")
    here = HostNode()
    folders = [Folder(here, str(stack.folder / name), 0o700) for name in ("", *names)]
    return [
        Group(here, f"folders ({stack.folder})", folders),
        Made(stack),
        *(Running(each) for each in services(stack, programs)),
        FirstEntry(stack),
    ]


def stop(stack: Stack, names: Collection[str] = NAMES) -> list[str]:
    """Stop services and return which of them ran."""
    return [name for name in reversed(NAMES) if name in names and service.stop(stack.run, name)]


def states(stack: Stack) -> Sequence[service.State]:
    """Return how each service is."""
    return [service.state(stack.run, name) for name in NAMES]


def _commands(stack: Stack, programs: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    ours = programs["sigstore-services"]

    def own(program: str, name: str, *more: str) -> tuple[str, ...]:
        address, folder = f"{HOST}:{stack.ports[name]}", str(stack.folder / name)
        return (ours, program, "--address", address, "--dir", folder, *more)

    return {
        "issuer": own("issuer", "issuer"),
        "ct": (programs["ct-server"], *_ct(stack)),
        "fulcio": own("fulcio", "fulcio", "--ct-log", stack.url("ct")),
        "rekor": (programs["rekor-server"], *_rekor(stack)),
        "rekor-v1": own("rekor", "rekor-v1"),
        "timestamps": own("timestamps", "timestamps"),
    }


def _ct(stack: Stack) -> tuple[str, ...]:
    folder, address = stack.folder / "ct", f"{HOST}:{stack.ports['ct']}"
    return (
        f"--http_endpoint={address}",
        f"--origin={HOST}",
        f"--private_key={folder / 'key.pem'}",
        f"--roots_pem_file={folder / 'roots.pem'}",
        f"--storage_dir={folder / 'log'}",
        "--enable_publication_awaiter=false",
        "--accept_sha1_signing_algorithms=false",
    )


def _rekor(stack: Stack) -> tuple[str, ...]:
    folder, ports = stack.folder / "rekor", {name: str(port) for name, port in stack.ports.items()}
    options = {
        "http-address": HOST,
        "http-port": ports["rekor"],
        "http-metrics-port": ports["rekor-metrics"],
        "grpc-address": HOST,
        "grpc-port": ports["rekor-grpc"],
        "hostname": HOST,  # clients look for the checkpoint of the log under the host of its URL
        "storage-dir": str(folder / "log"),
        "signer-filepath": str(folder / "key.pem"),
        "checkpoint-interval": "1s",
        "batch-max-age": "100ms",
    }
    return ("serve", *(word for name, value in options.items() for word in (f"--{name}", value)))


def _inputs(stack: Stack, name: str) -> list[Path]:
    more = {
        "issuer": ["keys.json"],
        "ct": ["roots.pem"],
        "fulcio": ["chain.pem", "ct.pem", "config.yaml"],
        "timestamps": ["chain.pem"],
    }
    own = [] if name == "issuer" else ["key.pem"]  # tokens are signed elsewhere
    return [stack.folder / name / file for file in (*own, *more.get(name, ()))]


def _file(stack: Stack, name: str, content: bytes, mode: int = 0o644) -> File:
    return File(HostNode(), str(stack.folder / name), content, mode)


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
