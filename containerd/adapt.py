"""The configuration of a containerd that is not ours, changed as little as enforcement needs.

What must be set is what the gate's doctor then looks for (gate/internal/doctor). Comments and everything else stay.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement.layout import Layout
from countersign.enforcement.nri import NRI, PLUGIN, SETTINGS, VALIDATOR

IMAGES = "io.containerd.cri.v1.images"
RUNTIME = "io.containerd.cri.v1.runtime"
VERIFIER = "io.containerd.image-verifier.v1.bindir"
RUNC = "io.containerd.runc.v2"
VERIFIED_PULLS: Mapping[str, Any] = {
    "use_local_image_pull": False,
    "disable_snapshot_annotations": True,
    "discard_unpacked_layers": False,
    "max_concurrent_downloads": 3,
    "image_pull_with_sync_fs": False,
}
"""With any other value the CRI plugin pulls by itself, and no verifier is asked."""
CRIU_SWITCH = (2, 4)
READABLE = 3
"""The oldest version of the configuration that has the plugins' present names."""
DEADLINE = "30s"
TRANSFER = "io.containerd.transfer.v1.local"
DEFAULT_SNAPSHOTTER = "overlayfs"


Version = tuple[int, ...]
"""Major, minor and patch; compares with a version that has fewer parts."""


@dataclass(frozen=True)
class Wanted:
    """What the configuration has to say.

    Attributes:
        layout: where our parts are.
        version: of containerd.
        sandbox: the sandbox image by digest.
        base_specs: runtime handler → path of its base spec.
        platform: such as ``linux/amd64``.
        nri: the socket of its NRI; empty where it can't require a plugin.
        lacks_resource: without CAP_SYS_RESOURCE no container can be given a lower OOM score than containerd has.
    """

    layout: Layout
    version: Version
    sandbox: str
    base_specs: Mapping[str, str]
    platform: str
    lacks_resource: bool = False
    nri: str = ""


def format_version(config: bytes) -> int:
    """Return the ``version`` of a configuration file; a file without one is of the first.

    Raises:
        InfrastructureError: it is not TOML.
    """
    return int(_parsed(config).get("version", 1))


def adapted(config: bytes, wanted: Wanted) -> bytes:
    """Return the configuration with our settings in it; one that has them all is returned as it is.

    Args:
        config: a file of version 3 or later.
        wanted: what it has to say.

    Raises:
        InfrastructureError: it is not TOML.
    """
    document = _parsed(config)
    plugins = _table(document, "plugins")
    verifier = _table(plugins, VERIFIER)
    _set(verifier, {"bin_dir": wanted.layout.verifiers, "per_verifier_timeout": DEADLINE})
    images = _table(plugins, IMAGES)
    _set(images, VERIFIED_PULLS)
    _set(_table(images, "pinned_images"), {"sandbox": wanted.sandbox})
    registry = _table(images, "registry")
    if not registry.get("config_path"):
        registry["config_path"] = wanted.layout.certs
    runtime = _table(plugins, RUNTIME)
    if wanted.version >= CRIU_SWITCH:
        _set(runtime, {"enable_criu": False})
    if wanted.lacks_resource:
        _set(runtime, {"restrict_oom_score_adj": True})
    handlers = _table(_table(runtime, "containerd"), "runtimes")
    for handler, path in wanted.base_specs.items():
        _set(_table(handlers, handler), {"base_runtime_spec": path})
    if wanted.nri:
        _require_plugin(_table(plugins, NRI), wanted.nri)
    _unpack(plugins, str(images.get("snapshotter") or DEFAULT_SNAPSHOTTER), wanted.platform)
    return _text(document)


def with_handler(config: bytes, name: str, *, hooked: bool = False, shim: str = "") -> bytes:
    """Return the configuration with one more runtime handler, as a user would add it after set-up.

    Args:
        config: containerd's.
        name: of the handler.
        hooked: give it the base spec of a handler that is there, which has the hook.
        shim: the program of a runtime of another type than runc's; default: runc's.

    Raises:
        InfrastructureError: it is not TOML, or no handler has a base spec.
    """
    document = _parsed(config)
    runtimes = _table(_table(_table(_table(document, "plugins"), RUNTIME), "containerd"), "runtimes")
    added = {"runtime_type": "io.containerd.other.v2", "runtime_path": shim} if shim else {"runtime_type": RUNC}
    if hooked:
        specs = [handler["base_runtime_spec"] for handler in runtimes.values() if "base_runtime_spec" in handler]
        if not specs:
            raise InfrastructureError("no runtime handler has a base spec", do="run ./inv containerd.setup")
        added["base_runtime_spec"] = str(specs[0])
    _set(_table(runtimes, name), added)
    return _text(document)


def without_nri(config: bytes) -> bytes:
    """Return the configuration with NRI switched off. Raises InfrastructureError when it is not TOML."""
    document = _parsed(config)
    _set(_table(_table(document, "plugins"), NRI), {"disable": True})
    return _text(document)


def _require_plugin(table: MutableMapping[str, Any], socket: str) -> None:
    """Let no container be made without the gate, beside whatever else the user requires."""
    _set(table, {**SETTINGS, "socket_path": socket})
    validator = _table(table, "default_validator")
    _set(validator, VALIDATOR)
    required = list(validator.get("required_plugins", []))
    if PLUGIN not in required:
        validator["required_plugins"] = [*required, PLUGIN]


def _unpack(plugins: MutableMapping[str, Any], snapshotter: str, platform: str) -> None:
    """Let the transfer service unpack for another snapshotter than its default."""
    if snapshotter == DEFAULT_SNAPSHOTTER:
        return
    entries = _table(plugins, TRANSFER).setdefault("unpack_config", [])
    if not any(entry.get("snapshotter") == snapshotter for entry in entries):
        entries.append({"platform": platform, "snapshotter": snapshotter, "differ": "walking"})


def _set(table: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
    """Set what differs; what is right already is not written again, so its comments stay."""
    for key, value in values.items():
        if table.get(key) != value:
            table[key] = value


def _table(parent: MutableMapping[str, Any], key: str) -> MutableMapping[str, Any]:
    if key not in parent:
        from tomlkit import table

        parent[key] = table()
    found: MutableMapping[str, Any] = parent[key]
    return found


def _parsed(config: bytes) -> MutableMapping[str, Any]:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(config.decode())
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise InfrastructureError(f"is not TOML ({error})", where="containerd's configuration") from None


def _text(document: MutableMapping[str, Any]) -> bytes:
    import tomlkit

    return tomlkit.dumps(document).encode()
