"""By whom a release has to be signed: a public key, or exactly one identity. What verifies is the gate's engine."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from countersign.console.errors import InfrastructureError, UsageError
from countersign.policy import gate as rendering
from countersign.policy.load import load as load_policy

_PARTS = re.compile(r"\*\*|\*|[^*]+")
_WILDCARDS = {"*": "[^/]*", "**": ".*"}
"""Wildcard of a subject → the same in a regular expression (docs/policy.md)."""
_REFUSED = 1
_USAGE = 2
_SECONDS = 120


class Trust(Protocol):
    """Whom to trust, in the words of each program."""

    def blob(self) -> list[str]:
        """Return the options of ``countersign-gate verify-bundle``."""

    def image(self, repository: str, scratch: Path, /) -> list[str]:
        """Return the options of ``countersign-gate verify`` for images of a repository."""

    def cosign(self) -> list[str]:
        """Return the options of every ``cosign verify…``."""

    def shown(self) -> str:
        """Return it for people."""


@dataclass(frozen=True)
class ByKey:
    """A release is signed with this key."""

    key: Path

    def blob(self) -> list[str]:
        """See ``Trust``."""
        return ["--key", str(self.key)]

    def image(self, _repository: str, _scratch: Path, /) -> list[str]:
        """See ``Trust``."""
        return self.blob()

    def cosign(self) -> list[str]:
        """See ``Trust``; a key's signatures are in no log unless one was asked for."""
        return [*self.blob(), "--insecure-ignore-tlog=true"]

    def shown(self) -> str:
        """See ``Trust``."""
        return f"the key {self.key}"


@dataclass(frozen=True)
class ByIdentity:
    """A release is signed by this subject, as this issuer tells it."""

    issuer: str
    subject: str
    trusted_root: Path

    def blob(self) -> list[str]:
        """See ``Trust``."""
        who = ["--certificate-identity", self.subject, "--certificate-oidc-issuer", self.issuer]
        return [*who, "--trusted-root", str(self.trusted_root)]

    def image(self, repository: str, scratch: Path, /) -> list[str]:
        """See ``Trust``; the policy has this one root, for this one repository."""
        root = {"issuer": self.issuer, "subject": self.subject, "trustedRoot": str(self.trusted_root.resolve())}
        return rendered({"keyless": root}, repository, scratch / "policy.json")

    def cosign(self) -> list[str]:
        """See ``Trust``; cosign knows no globs, and looks for a pattern anywhere in a name."""
        if "*" not in self.subject:
            return self.blob()
        pattern = "".join(_WILDCARDS.get(each) or re.escape(each) for each in _PARTS.findall(self.subject))
        return ["--certificate-identity-regexp", f"^{pattern}$", *self.blob()[2:]]

    def shown(self) -> str:
        """See ``Trust``."""
        return f"{self.subject}, as {self.issuer} tells it"


def rendered(root: Mapping[str, Any], repository: str, into: Path) -> list[str]:
    """Write the gate's policy with one root for one repository; return the option that names it."""
    document = {
        "apiVersion": "countersign/v1",
        "roots": {"release": root},
        "scopes": {repository: {"anyOf": ["release"]}},
    }
    source = into.with_suffix(".yaml")
    source.write_text(json.dumps(document), encoding="utf-8")
    into.write_bytes(rendering.render(load_policy(source)))
    return ["--policy", str(into)]


def run(program: Path, words: Sequence[str | Path]) -> tuple[bool, str, str]:
    """Run the gate's program; return whether it allows, its stdout, and its stderr.

    Raises:
        UsageError: it cannot use what it was given, such as a key.
        InfrastructureError: it came to no verdict.
    """
    argv = [str(program), *(str(each) for each in words)]
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as err:
        raise InfrastructureError(f"no verdict in {_SECONDS} s", where=shlex.join(argv)) from err
    if ended.returncode in (0, _REFUSED):
        return ended.returncode == 0, ended.stdout, ended.stderr
    said = ended.stderr.strip().removeprefix("error: ")
    if ended.returncode == _USAGE:
        raise UsageError(said)
    raise InfrastructureError(said or f"ended with {ended.returncode}", where=shlex.join(argv))
