"""The OCI spec that every container of a runtime handler starts from (containerd's ``base_runtime_spec``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement.layout import Layout
from countersign.nodes.template import render

HOOK = Path(__file__).with_name("createruntime.json.j2")


def hook(layout: Layout) -> dict[str, Any]:
    """Return our hook as the OCI runtime specification writes one (section POSIX-platform Hooks)."""
    found: dict[str, Any] = json.loads(render(HOOK, hook=layout.hook, socket=layout.gate_socket))
    return found


def with_hook(default: bytes, layout: Layout) -> bytes:
    """Return the runtime's own default spec with our hook in front of every other createRuntime hook.

    The default's resource limits are left out: without a base spec the CRI plugin clears them,
    with one it keeps them, and every container would get 1024 open files.

    Args:
        default: what the runtime says its default is (``ctr oci spec``), or the base spec in use.
        layout: where hook and gate are.

    Raises:
        InfrastructureError: ``default`` is not a spec.
    """
    try:
        spec = json.loads(default)
        spec["process"].pop("rlimits", None)
        hooks = spec.setdefault("hooks", {}).setdefault("createRuntime", [])
        others = [entry for entry in hooks if entry["path"] != layout.hook]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfrastructureError(
            f"is not an OCI runtime spec ({error!r})", where="the runtime's default spec"
        ) from None
    spec["hooks"]["createRuntime"] = [hook(layout), *others]
    return (json.dumps(spec, indent=2) + "\n").encode()
