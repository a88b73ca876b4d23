"""Registries of the policy that a node has no credentials for, and entries that it cannot use: said, never refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from console.errors import CountersignError
from enforcement.registries import CANARY, REFERRERS
from oci.credentials import Credentials

if TYPE_CHECKING:
    from enforcement.layout import Layout
    from nodes.node import Node


def of_node(node: Node, layout: Layout) -> list[str]:
    """Return what `warnings` says of a node's own files; one without a policy has no registries yet."""
    if not (node.exists(layout.policy) and node.exists(layout.docker_config)):
        return []
    return list(warnings(node.get(layout.docker_config), node.get(layout.policy), layout.docker_config))


def warnings(docker_config: bytes, policy: bytes, where: str) -> Iterator[str]:
    """Yield one line for each entry that cannot be used and each registry of a signature scope without credentials.

    Args:
        docker_config: the node's Docker config.json.
        policy: the gate's policy (``countersign.policy/v1``).
        where: the path of the Docker config.
    """
    auths = _table(docker_config, "auths")
    if auths is None:
        yield f"{where}: cannot be read; expected a Docker config.json; set-up writes it again"
        return
    broken = set()
    for key, entry in auths.items():
        try:
            Credentials({"auths": {key: entry}}, where).basic(key)
        except CountersignError as error:  # noqa: PERF203 - one bad entry hides no other
            broken.add(key)
            yield f"{error}; its registry alone cannot be asked with it: mend the entry in registry.docker_config"
    usable = {key: entry for key, entry in auths.items() if key not in broken}
    empty = {_host(key) for key, entry in usable.items() if not entry}
    known = Credentials({"auths": usable}, where)
    for scope in _signed(policy):
        if known.basic(*_upwards(scope)) is None and not any(key in broken for key in _upwards(scope)):
            yield f"{scope}: the node has no credentials for it; {_do(helped=_host(scope) in empty)}"


def _do(*, helped: bool) -> str:
    if helped:
        return (
            "a credential helper of your machine keeps them, which a node does not have: "
            "put a user and a password of the node's own into registry.docker_config"
        )
    return "if it wants some, put them into registry.docker_config, else images there are refused with REGISTRY_AUTH"


def _signed(policy: bytes) -> list[str]:
    """Return the scopes for which the gate asks a registry, without those of the demo that want no credentials."""
    scopes = _table(policy, "scopes") or {}
    return sorted(
        scope
        for scope, rule in scopes.items()
        if isinstance(rule, dict) and {"anyOf", "allOf"} & rule.keys() and _host(scope) not in (CANARY, REFERRERS)
    )


def _upwards(scope: str) -> list[str]:
    """Return a scope and its parents up to the registry, the longest first."""
    parts = scope.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _host(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _table(content: bytes, key: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
