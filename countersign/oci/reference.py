"""Image references, parsed exactly as CRI does (``ParseDockerRef`` of distribution/reference 0.6).

The name decides which scope of the policy applies, so this parser, the gate's and the runtime's must never
disagree; ``shared/vectors/references.json`` holds all three to the same answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from countersign.console.errors import UsageError
from countersign.oci.digest import valid

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_PATH = 255  # RepositoryNameTotalLengthMax
_MAX_TEXT = 4096  # ours: DNS ends at 253, so no name that can be reached is refused

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9a-fA-F]{32,}"

_NAME_RE = re.compile(rf"(?:({_DOMAIN})/)?({_PATH})", re.ASCII)
_REFERENCE_RE = re.compile(rf"((?:{_DOMAIN}/)?{_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_IDENTIFIER_RE = re.compile(r"[a-f0-9]{64}")
_ID_RE = re.compile(r"sha(?:256|384|512):[^/@:]+|[a-f0-9]{1,64}", re.DOTALL)


class BadReference(UsageError):
    """The text is not an image reference."""

    code = "BAD_REFERENCE"


@dataclass(frozen=True)
class Reference:
    """A normalised image reference: never both a tag and a digest, never neither.

    Attributes:
        registry: the domain, with its port ("docker.io", "127.0.0.1:5000").
        repository: the path below it ("library/busybox").
        tag: the tag, or None beside a digest.
        digest: the digest ("sha256:…"), or None.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """The repository's full name, "registry/path": what scopes are matched with."""
        return f"{self.registry}/{self.repository}"

    def at(self, digest: str) -> Reference:
        """Return the reference of ``digest`` in the same repository."""
        return Reference(self.registry, self.repository, None, digest)

    def __str__(self) -> str:
        """Return ``name@digest`` or ``name:tag``."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Parse ``text`` as CRI parses the image name of a container.

    Args:
        text: what a user wrote: "busybox", "host:5000/a/b:tag", "a/b@sha256:…".

    Returns:
        The reference, with Docker Hub's short names filled in, tag "latest" where there is neither tag nor
        digest, and the tag dropped beside a digest.

    Raises:
        BadReference: where ParseDockerRef fails.
    """
    if len(text) > _MAX_TEXT:
        raise _bad(text[:60] + "…", f"at most {_MAX_TEXT} characters")
    if _IDENTIFIER_RE.fullmatch(text):
        raise _bad(text, "a repository name, which 64 hexadecimal digits are not")
    domain, remainder = _split_domain(text)
    match = _REFERENCE_RE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise _bad(text, "[HOST[:PORT]/]PATH[:TAG][@DIGEST], the path in lower case")
    name, tag, digest = match.groups()
    parts = _NAME_RE.fullmatch(name)
    if parts is None or len(parts[2]) > _MAX_PATH:
        raise _bad(text, f"a repository path of at most {_MAX_PATH} characters")
    if digest is not None and not valid(digest):
        raise _bad(text, "a digest like sha256:<64 lower-case hexadecimal digits>")
    registry, _, repository = name.partition("/")
    if digest is not None:
        return Reference(registry, repository, None, digest)
    return Reference(registry, repository, tag or DEFAULT_TAG, None)


def is_id(text: str) -> bool:
    """Say whether CRI may take ``text`` for an image ID or a prefix of one: a digest of any length, or hex alone.

    Such names have no repository and so no scope, although most of them parse as short names too.
    """
    return _ID_RE.fullmatch(text) is not None


def _split_domain(text: str) -> tuple[str, str]:
    """Split off the registry, as splitDockerDomain does, filling in Docker Hub's."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _bad(text: str, expected: str) -> BadReference:
    return BadReference(f"{text!r} is not an image reference", expected=expected)
