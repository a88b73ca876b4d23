"""A release 1.2.3 of two programs on a server of this process, vouched for by the lab's own Sigstore."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from typing import TYPE_CHECKING

from countersign.console.config import Settings
from countersign.tools import taking
from lab.trials import authority
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.release.test_identity import Workflow

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Bench

WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.2.3"
SIGSTORE, STRANGERS = authority.make(), authority.make()
GATE, HOOK, SUMS, BUNDLE = "app-gate-1.2.3-linux-amd64", "app-hook-1.2.3-linux-amd64", taking.SUMS, taking.BUNDLE


@dataclasses.dataclass
class Published:
    """A release 1.2.3 on a server.

    Attributes:
        server: has it below /v1.2.3/; ``faults`` may be added.
        files: name → content of what is there.
        settings: that ask for this release.
    """

    server: FakeRegistry
    files: dict[str, bytes]
    settings: Settings

    def sign(self, subject: str = WORKFLOW, sigstore: authority.Authority = SIGSTORE) -> None:
        """Write checksums over all programs that are there, and their signature."""
        names = sorted(self.files.keys() - {SUMS, BUNDLE})
        self.files[SUMS] = "".join(f"{sha256(self.files[name])}  {name}\n" for name in names).encode()
        self.files[BUNDLE] = Workflow(sigstore, subject).file(self.files[SUMS])

    def answer(self, request: Request) -> Reply:
        content = self.files.get(request.path.removeprefix("/v1.2.3/"))
        return Reply(404) if content is None else Reply(200, content)

    def asked(self) -> list[str]:
        """Return the files that were asked for, in order."""
        return [request.path.rpartition("/")[2] for request in self.server.requests]

    def with_tools(self, **changed: object) -> Settings:
        """Return the settings with other ones in the group ``tools``."""
        tools = dataclasses.replace(self.settings.tools, **changed)  # type: ignore[arg-type]
        return dataclasses.replace(self.settings, tools=tools)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def says(text: str) -> bytes:
    return f"#!/bin/sh\necho {text}\n".encode()


def git(bench: Bench, *words: str) -> None:
    """Run git in a bench that is a checkout."""
    subprocess.run(["git", "-C", bench.folder, *words], check=True)


def commit(bench: Bench) -> None:
    """Commit what is staged there."""
    git(bench, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--allow-empty", "-m", "x")
