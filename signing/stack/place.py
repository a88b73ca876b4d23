"""Where the private Sigstore lies, where its services listen, and whose tokens it takes."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError

HOST = "127.0.0.1"
AUDIENCE = "sigstore"
"""Who a token is for: what Sigstore's clients call themselves."""
LISTENERS = ("issuer", "ct", "fulcio", "rekor", "rekor-grpc", "rekor-metrics", "rekor-v1", "timestamps")
_KEPT = "stack.json"


@dataclass(frozen=True)
class Stack:
    """A private Sigstore that is made, or will be.

    Attributes:
        folder: all that it has; 0700.
        ports: listener → port of loopback.
        made: its keys and files are there.
    """

    folder: Path
    ports: Mapping[str, int]
    made: bool

    def url(self, listener: str) -> str:
        """Return where a listener answers."""
        return f"http://{HOST}:{self.ports[listener]}"

    @property
    def mail_issuer(self) -> str:
        """The issuer of tokens for people: the identity is an e-mail address."""
        return f"{self.url('issuer')}/mail"

    @property
    def workflow_issuer(self) -> str:
        """The issuer of tokens for workflows, with the claims of GitHub Actions: the identity is a URI."""
        return f"{self.url('issuer')}/workflows"

    @property
    def trusted_root(self) -> Path:
        """``trusted_root.json``: whom verifiers trust."""
        return self.folder / "trust" / "trusted_root.json"

    @property
    def signing_config(self) -> Path:
        """``signing_config.json``: where signers go."""
        return self.folder / "trust" / "signing_config.json"

    @property
    def trust_config(self) -> Path:
        """``trust_config.json``: both in one, for ``sigstore --trust-config``."""
        return self.folder / "trust" / "trust_config.json"

    @property
    def run(self) -> Path:
        """Where the supervisors keep their files."""
        return self.folder / "run"

    def kept(self) -> bytes:
        """Return the content of the file that `find` reads: written last, it says that all else is there."""
        return (json.dumps({"version": 1, "ports": dict(self.ports)}, indent=2) + "\n").encode()

    @property
    def kept_at(self) -> Path:
        """Where that file lies."""
        return self.folder / _KEPT


def find(settings: Settings) -> Stack:
    """Return the private Sigstore of this state folder, or a new one with free ports; writes nothing.

    Raises:
        UsageError: what lies there cannot be read.
    """
    folder = settings.state / "sigstore"
    kept = folder / _KEPT
    try:
        ports = json.loads(kept.read_text(encoding="utf-8"))["ports"]
    except FileNotFoundError:
        return Stack(folder, dict(zip(LISTENERS, _free_ports(len(LISTENERS)), strict=True)), made=False)
    except (ValueError, KeyError, TypeError):
        ports = None
    if not isinstance(ports, dict) or set(ports) != set(LISTENERS) or not all(type(p) is int for p in ports.values()):
        raise UsageError(
            "cannot be read", where=str(kept), expected="what signing.stack.start wrote", do=f"move {folder} away"
        )
    return Stack(folder, ports, made=True)


def require(settings: Settings) -> Stack:
    """Return the private Sigstore of this state folder.

    Raises:
        InfrastructureError: there is none.
    """
    stack = find(settings)
    if not stack.made:
        raise InfrastructureError("there is none", where=str(stack.folder), do="start one: ./inv signing.stack.start")
    return stack


def check_ports(stack: Stack, down: Mapping[str, tuple[str, ...]]) -> None:
    """Find out whether someone else listens where a service is about to.

    Args:
        down: services that do not run → their listeners.

    Raises:
        InfrastructureError: someone does.
    """
    for name, listeners in down.items():
        for port in (stack.ports[listener] for listener in listeners):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise InfrastructureError(
                        f"port {port} of {name} is taken ({error.strerror})",
                        where=f"{HOST}:{port}",
                        do="free it; signatures and policies name this address, so it stays the same",
                    ) from None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
