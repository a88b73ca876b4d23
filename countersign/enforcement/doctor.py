"""Is the enforcement in force? What would switch it off without an error, found before anyone relies on it.

The functions here look at settings; `countersign.enforcement.canary` then tries. A setting is judged by the
configuration that containerd itself says is in effect (``containerd config dump``, imports and
defaults included), never by the file that we wrote.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from countersign.enforcement import versions
from countersign.enforcement.base_spec import hook
from countersign.enforcement.layout import Layout
from countersign.enforcement.problem import NotEnforced, Problem
from countersign.enforcement.versions import Version
from countersign.nodes.node import Node

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IMAGES = "io.containerd.cri.v1.images"
RUNTIME = "io.containerd.cri.v1.runtime"
VERIFIER = "io.containerd.image-verifier.v1.bindir"
VERIFIED_PULLS: Mapping[str, Any] = {
    "use_local_image_pull": False,
    "disable_snapshot_annotations": True,
    "discard_unpacked_layers": False,
    "max_concurrent_downloads": 3,
    "image_pull_with_sync_fs": False,
}
"""With any other value the CRI plugin pulls by itself, and no verifier is asked."""
PULLS_PAST_THE_VERIFIER = ("mirrors", "configs", "auths")
"""Tables of ``registry`` that have the same effect as soon as one has an entry."""
NEEDED_PLUGINS = (VERIFIER, "io.containerd.transfer.v1.local")
CRIU_SWITCH = (2, 4)
FALLBACK = "Falling back to local image pull mode"
RUNC = "io.containerd.runc.v2"
PULL_DEADLINE = 20.0
"""Seconds that the gate takes for a pull at most (``timeouts.pull`` of gate.json)."""
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def examine(node: Node, layout: Layout, containerd: Sequence[str], log: str = "") -> None:
    """Look at everything that a look can tell.

    Args:
        node: where it runs.
        layout: where our parts are.
        containerd: how the daemon is started, such as ``["containerd", "--config", FILE]``.
        log: what the daemon wrote since it started.

    Raises:
        NotEnforced: with every problem found.
    """
    if problems := look(node, layout, containerd, log):
        raise NotEnforced(problems, f"doctor on {node.name}")


def look(node: Node, layout: Layout, containerd: Sequence[str], log: str = "") -> list[Problem]:
    """Return every problem that a look can tell; the arguments are those of `examine`.

    Raises:
        CommandError: containerd does not read its configuration.
    """
    from countersign.enforcement import nri

    config = tomllib.loads(node.run([*containerd, "config", "dump"]).text)
    version = versions.parse(node.run([containerd[0], "--version"]).text) or (0,)
    return [
        *version_problems(version, criu=node.run(["sh", "-c", "command -v criu"], check=False).code == 0),
        *pull_problems(config, layout),
        *handler_problems(config, layout, version, lambda path: _read(node, path)),
        *folder_problems(node, layout, _plugin(config, VERIFIER).get("max_verifiers", 0)),
        *log_problems(log),
        *nri.setting_problems(config, version),
        *nri.plugin_problems(node, layout, version),
    ]


def version_problems(version: Version, *, criu: bool) -> Iterator[Problem]:
    """Yield what this version of containerd lacks; before 2.4 nothing but a missing criu stops restored checkpoints."""
    found = f"version {'.'.join(map(str, version[:2]))}"
    if versions.too_old(version):
        yield Problem(
            "containerd",
            found,
            "2.1 or newer: before, the name that a hook sees is not what was written",
            "install a newer containerd there",
        )
    elif version < CRIU_SWITCH and criu:
        yield Problem(
            "criu",
            f"installed beside containerd {found}",
            "absent: a restored checkpoint has no verdict",
            "remove criu from that node, or install containerd 2.4",
        )


def pull_problems(config: Mapping[str, Any], layout: Layout) -> Iterator[Problem]:
    """Yield every setting by which pulls would go past the verifier."""
    for plugin in config.get("disabled_plugins", []):
        if any(needed.startswith(plugin) for needed in NEEDED_PLUGINS):
            yield Problem("disabled_plugins", f"with {plugin}", "without it")
    images = _plugin(config, IMAGES)
    for key, expected in VERIFIED_PULLS.items():
        if (found := images.get(key, "absent")) != expected:
            yield Problem(f"{IMAGES}.{key}", _shown(found), _shown(expected))
    for key in PULLS_PAST_THE_VERIFIER:
        if images.get("registry", {}).get(key):
            yield Problem(f"{IMAGES}.registry.{key}", "set", "empty (config_path has a hosts.toml for each registry)")
    sandbox = images.get("pinned_images", {}).get("sandbox", "")
    if "@sha256:" not in sandbox:
        yield Problem(f"{IMAGES}.pinned_images.sandbox", _shown(sandbox), "an image by digest: no hook sees sandboxes")
    verifier = _plugin(config, VERIFIER)
    if verifier.get("bin_dir") != layout.verifiers:
        yield Problem(f"{VERIFIER}.bin_dir", _shown(verifier.get("bin_dir")), _shown(layout.verifiers))
    deadline = seconds(str(verifier.get("per_verifier_timeout", "")))
    if deadline <= PULL_DEADLINE:
        yield Problem(f"{VERIFIER}.per_verifier_timeout", f"{deadline:g}s", f"more than {PULL_DEADLINE:g}s")


def handler_problems(config: Mapping[str, Any], layout: Layout, version: Version, read: Any) -> Iterator[Problem]:
    """Yield every runtime handler whose containers would start without the hook, or beyond its sight.

    ``read`` returns the content of a file of the node, or None.
    """
    runtime = _plugin(config, RUNTIME)
    renamed = "enable_checkpoint_restore"
    if version >= CRIU_SWITCH and runtime.get("enable_criu", renamed not in runtime):
        yield Problem(f"{RUNTIME}.enable_criu", "true", "false: a restored checkpoint has no verdict")
    if runtime.get(renamed):
        yield Problem(f"{RUNTIME}.{renamed}", "true", "false: a restored checkpoint has no verdict")
    for name, handler in runtime.get("containerd", {}).get("runtimes", {}).items():
        where = f"handler {name}"
        if handler.get("runtime_type") != RUNC:
            yield Problem(f"{where}: runtime_type", _shown(handler.get("runtime_type")), _shown(RUNC))
        if handler.get("snapshotter"):
            yield Problem(f"{where}: snapshotter", _shown(handler["snapshotter"]), "the default one")
        path = handler.get("base_runtime_spec", "")
        if not path:
            yield Problem(f"{where}: base_runtime_spec", "empty", _shown(layout.base_spec))
            continue
        content = read(path)
        if content is None or hook(layout) not in _hooks(content):
            yield Problem(f"{where}: {path}", "without our createRuntime hook", "the hook as set-up wrote it")


def folder_problems(node: Node, layout: Layout, max_verifiers: int) -> Iterator[Problem]:
    """Yield what is wrong with the verifier's folder and our programs: who else could change or crowd them out."""
    entries = sorted(node.run(["ls", "-A", layout.verifiers], check=False).text.split())
    name = layout.verifier.rpartition("/")[2]
    if name not in entries:
        yield Problem(layout.verifiers, "without our verifier", name)
    elif 0 <= max_verifiers <= entries.index(name):
        yield Problem(f"{VERIFIER}.max_verifiers", str(max_verifiers), f"more than {entries.index(name)}")
    for path in (layout.gate, layout.hook, layout.verifiers):
        found = node.run(["stat", "-L", "-c", "%U %a", path], check=False).text
        owner, _, mode = found.partition(" ")
        if not found:
            yield Problem(path, "missing", "there")
        elif owner != "root" or int(mode, 8) & 0o022 or not int(mode, 8) & 0o100:
            yield Problem(path, f"{owner}'s with mode {mode}", "root's, executable, writable by root only")


def log_problems(log: str) -> Iterator[Problem]:
    """Yield the daemon's own word that it has left the verified path."""
    if FALLBACK in log:
        yield Problem("containerd's log", f"saying “{FALLBACK}”", "no such line")


def seconds(duration: str) -> float:
    """Return a Go duration such as ``1m30s`` in seconds; what is none is 0."""
    parts = DURATION.findall(duration)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def _plugin(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = config.get("plugins", {}).get(name, {})
    return found


def _hooks(content: bytes) -> list[Any]:
    try:
        found: list[Any] = json.loads(content)["hooks"]["createRuntime"]
    except (ValueError, KeyError, TypeError):
        return []
    return found


def _read(node: Node, path: str) -> bytes | None:
    return node.get(path) if node.exists(path) else None


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
