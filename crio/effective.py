"""What a CRI-O says of itself: the configuration that is in effect."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from crio.paths import INSTALLED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from countersign.nodes.node import Node


@dataclass(frozen=True)
class Effective:
    """The running configuration (``crio status config``), as far as set-up goes by it.

    Attributes:
        config: the table ``crio``, whole.
        sandbox: ``pause_image``.
        handlers: runtime handlers, the default one first.
        storage: graph root.
        run_storage: run root.
        systemd_cgroups: systemd manages cgroups.
        nri: where it serves NRI.
    """

    config: Mapping[str, Any] = field(repr=False)
    sandbox: str
    handlers: Sequence[str]
    storage: str
    run_storage: str
    systemd_cgroups: bool
    nri: str = INSTALLED.nri


def parse(text: str) -> Effective:
    """Read what ``crio status config`` printed.

    Raises:
        InfrastructureError: it is not such a configuration.
    """
    try:
        crio = tomllib.loads(text)["crio"]
        runtime, image = crio["runtime"], crio["image"]
        first = runtime["default_runtime"]
        return Effective(
            config=crio,
            sandbox=image.get("pause_image", ""),
            handlers=sorted(runtime.get("runtimes", {}), key=lambda name: name != first),
            storage=crio.get("root", ""),
            run_storage=crio.get("runroot", ""),
            systemd_cgroups=runtime.get("cgroup_manager", "systemd") == "systemd",
            nri=crio.get("nri", {}).get("nri_listen") or INSTALLED.nri,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InfrastructureError(f"cannot be read ({error!r})", where="crio status config") from None


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
