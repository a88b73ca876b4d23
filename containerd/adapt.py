"""The configuration of a containerd, changed as little as enforcement needs: comments and everything else stay."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement.nri import NRI

IMAGES = "io.containerd.cri.v1.images"
RUNTIME = "io.containerd.cri.v1.runtime"
RUNC = "io.containerd.runc.v2"
READABLE = 3
"""The oldest version of the configuration that has the plugins' present names."""


def format_version(config: bytes) -> int:
    """Return the ``version`` of a configuration file; a file without one is of the first.

    Raises:
        InfrastructureError: it is not TOML.
    """
    return int(_parsed(config).get("version", 1))


def adapted(config: bytes, plugins: Mapping[str, Any]) -> bytes:
    """Return the configuration with settings in it; one that has them all is returned as it is.

    Args:
        config: a file of version 3 or later.
        plugins: what it has to say below ``plugins`` (`countersign.enforcement.node_files.Written`). A list of it
            joins what the configuration has there.

    Raises:
        InfrastructureError: it is not TOML.
    """
    document = _parsed(config)
    _set(_table(document, "plugins"), plugins)
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


def _set(table: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
    """Set what differs; what is right already is not written again, so its comments stay."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            _set(_table(table, key), value)
        elif isinstance(value, list) and key in table:
            table[key].extend(each for each in value if each not in table[key])
        elif table.get(key) != value:
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
