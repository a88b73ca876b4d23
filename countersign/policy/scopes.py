"""Scopes: a registry, a namespace or a repository, in one normal form.

Docker Hub's short names are filled in as the reference grammar does ("busybox", "acme/app"). A trailing slash says
"everything below"; it is needed only for a namespace on Docker Hub, because ``docker.io/acme`` names the official
image ``docker.io/library/acme`` in the reference grammar and a namespace elsewhere, so alone it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from countersign.console.errors import UsageError
from countersign.oci import reference

_HUB = reference.DEFAULT_DOMAIN
_HUB_NAMES = frozenset({_HUB, "index.docker.io"})


class BadScope(UsageError):
    """A text is not a scope."""

    code = "POLICY_INVALID"


def normalise(text: str) -> str:
    """Return the normal form of a scope as a person wrote it.

    Args:
        text: "registry.example:5000", "registry.example/team", "busybox", "acme/app", "docker.io/acme/".

    Returns:
        the scope to compare the names of repositories with; normal forms stay as they are, but for the one in the
        module's docstring.

    Raises:
        BadScope: if it is none, or could be read in two ways.
    """
    below = text.endswith("/")
    first, _, rest = text.removesuffix("/").partition("/")
    if first in _HUB_NAMES:
        if rest and "/" not in rest and not below:
            raise BadScope(
                f"{text!r} can mean an official image or a namespace",
                expected=f"{_HUB}/library/{rest} or {_HUB}/{rest}/",
            )
        scope = f"{_HUB}/{rest}" if rest else _HUB
    elif _is_domain(first):
        scope = f"{first}/{rest}" if rest else first
    elif rest or below:
        scope = f"{_HUB}/{first}/{rest}" if rest else f"{_HUB}/{first}"
    else:
        scope = f"{_HUB}/library/{first}"
    _check(scope, text)
    return scope


def parents(repository: str) -> Iterator[str]:
    """Yield the scopes that cover a repository, longest first: itself, its namespaces, its registry."""
    while repository:
        yield repository
        repository = repository.rpartition("/")[0]


def _is_domain(first: str) -> bool:
    """Say whether the reference grammar takes a first component for a registry."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first


def _check(scope: str, text: str) -> None:
    """Raise unless whatever lies below ``scope`` is a repository in normal form."""
    below = f"{scope}/x/y"
    try:
        good = reference.parse(below)
    except reference.BadReference:
        good = None
    if good is None or good.name != below:
        raise BadScope(
            f"{text!r} is not a scope", expected="a registry, namespace or repository without tag, digest or wildcard"
        )
