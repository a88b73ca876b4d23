"""What a CRI-O says of itself: the configuration that is in effect."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from countersign.nodes.node import Node


RESTORES_NOTHING = ("", "none", "checkpoint_only", False)
"""Values of ``crio.checkpoint_restore`` under which no container comes from a checkpoint."""


@dataclass(frozen=True)
class Effective:
    """The running configuration (``crio status config``), as far as enforcement looks at it.

    Attributes:
        hooks_dirs: folders of hooks.
        policy: ``signature_policy``; empty means that starts are not checked.
        namespaces: ``signature_policy_dir``.
        sandbox: ``pause_image``.
        criu: the settings by which checkpoints are restored: name → value.
        handlers: runtime handlers, the default one first.
        storage: graph root.
        run_storage: run root.
        nri: ``crio.nri``, with what its table ``default_validator`` has.
        systemd_cgroups: systemd manages cgroups.
    """

    hooks_dirs: Sequence[str]
    policy: str
    namespaces: str
    sandbox: str
    criu: Mapping[str, Any]
    handlers: Sequence[str]
    storage: str
    run_storage: str
    nri: dict[str, Any]
    systemd_cgroups: bool


def parse(text: str) -> Effective:
    """Read what ``crio status config`` printed.

    Raises:
        InfrastructureError: it is no such configuration.
    """
    try:
        crio = tomllib.loads(text)["crio"]
        runtime, image, nri = crio["runtime"], crio["image"], crio.get("nri", {})
        first = runtime["default_runtime"]
        return Effective(
            hooks_dirs=runtime.get("hooks_dir", []),
            policy=image.get("signature_policy", ""),
            namespaces=image.get("signature_policy_dir", ""),
            sandbox=image.get("pause_image", ""),
            criu=_restoring(runtime, crio.get("checkpoint_restore")),
            handlers=sorted(runtime.get("runtimes", {}), key=lambda name: name != first),
            storage=crio.get("root", ""),
            run_storage=crio.get("runroot", ""),
            nri={**nri, **nri.get("default_validator", {})},
            systemd_cgroups=runtime.get("cgroup_manager", "systemd") == "systemd",
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InfrastructureError(f"cannot be read ({error!r})", where="crio status config") from None


def _restoring(runtime: Mapping[str, Any], table: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings in effect that let a checkpoint be restored.

    CRI-O has either ``enable_criu_support``, on unless it says otherwise, or the table ``crio.checkpoint_restore``,
    whose level restores nothing unless it says so; some versions have both.
    """
    found: dict[str, Any] = {}
    if runtime.get("enable_criu_support", table is None):
        found["enable_criu_support"] = runtime.get("enable_criu_support", True)
    for key, value in (table or {}).items():
        if key.endswith("_enabled") and value not in RESTORES_NOTHING:
            found[f"crio.checkpoint_restore.{key}"] = value
    return found


def effective(node: Node, crio: str, socket: str) -> Effective:
    """Ask a running CRI-O for its configuration.

    Args:
        node: where it runs.
        crio: its program, which asks.
        socket: where it listens.

    Raises:
        CommandError: it does not run.
    """
    return parse(node.run([crio, "status", "--socket", socket, "config"], timeout=20).text)
