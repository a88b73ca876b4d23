"""Registries of the policy that a node has no credentials for, and entries that it cannot use: said, never refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError
from countersign.oci import credentials
from countersign.policy.canary import REGISTRY as RESERVED

if TYPE_CHECKING:
    from countersign.enforcement.runtime import Runtime


MISSING = "the node has no credentials for it"


def of_runtime(runtime: Runtime) -> list[str]:
    """Return what `warnings` says of a node's own files; one without a policy has no registries yet."""
    node, layout = runtime.node, runtime.layout
    if not (node.exists(layout.policy) and node.exists(layout.docker_config)):
        return []
    config, policy = node.get(layout.docker_config), node.get(layout.policy)
    found = warnings(config, policy, layout.docker_config, runtime.registry_names)
    if node.exists(layout.gate_config) and _provided(node.get(layout.gate_config)):
        return [line for line in found if MISSING not in line]  # the kubelet's credential providers may have them
    return list(found)


def warnings(docker_config: bytes, policy: bytes, where: str, known: Sequence[str] = ()) -> Iterator[str]:
    """Yield one line for each entry that cannot be used and each registry of a signature scope without credentials.

    Args:
        docker_config: the node's Docker config.json.
        policy: the gate's policy (``countersign.policy/v1``).
        where: the path of the Docker config.
        known: registries of a lab, which brings the credentials that are wanted there.
    """
    try:
        logins = credentials.read(docker_config, where).logins
    except CountersignError as error:
        yield f"{error}; expected a Docker config.json; set-up writes it again"
        return
    for login in logins.values():
        if login.problem:
            what = f"{login.where}: {login.problem}"
            yield f"{what}; its registry alone cannot be asked with it: fix the entry in registry.docker_config"
    empty = {key.partition("/")[0] for key, login in logins.items() if login.empty}
    for scope in _signed(policy, known):
        found = next((logins[key] for key in credentials.keys(scope) if key in logins), None)
        if found is None or found.empty:
            yield f"{scope}: {MISSING}; {_do(helped=credentials.keys(scope)[-1] in empty)}"


def _do(*, helped: bool) -> str:
    if helped:
        return (
            "a credential helper of your machine keeps them, which a node does not have: "
            "put a user and a password of the node's own into registry.docker_config"
        )
    return (
        "if it wants some, put them into registry.docker_config or set registry.credential_providers, "
        "else images there are refused with REGISTRY_AUTH"
    )


def _signed(policy: bytes, known: Sequence[str]) -> list[str]:
    """Return the scopes for which the gate asks a registry that is not ``known``."""
    scopes = _table(policy, "scopes") or {}
    return sorted(
        scope
        for scope, rule in scopes.items()
        if isinstance(rule, dict) and {"anyOf", "allOf"} & rule.keys() and _host(scope) not in (RESERVED, *known)
    )


def _provided(gate_config: bytes) -> bool:
    """Return whether the gate asks credential providers."""
    return bool((_table(gate_config, "registry") or {}).get("credentialProviders"))


def _host(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _table(content: bytes, key: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
