"""What a node's containerd is like before enforcement; asking changes nothing."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from containerd import adapt
from containerd.adapt import IMAGES, RUNTIME
from containerd.runtime import CONFIG, DEFAULT_SNAPSHOTTER, NAMESPACE
from countersign.console.errors import InfrastructureError, MissingError
from countersign.enforcement import nri
from countersign.enforcement.layout import Layout
from countersign.nodes.facts import ARCHITECTURES, CAP_SYS_RESOURCE, has_capability

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from countersign.nodes.node import Node


Version = tuple[int, ...]
"""Major, minor and patch; compares with a version that has fewer parts."""
OLDEST: Version = (2, 1, 0)
"""Before it, nothing can be enforced. Which versions have known holes, the gate's doctor knows."""


@dataclass(frozen=True)
class Survey:
    """What set-up has to know of one node.

    Attributes:
        version: of containerd: major, minor, patch.
        config: the configuration file, of version 3 or later.
        base_specs: path of ours → the OCI spec that it is made of.
        handlers: runtime handler → path of ours for its base spec, the default handler first.
        sandbox: the sandbox image by digest, or an empty text when the node does not have it yet.
        sandbox_named: the sandbox image as the configuration names it.
        effective: the configuration in effect, imports and defaults included.
        snapshotter: as configured.
        certs: the folder of hosts.toml files that it reads.
        platform: such as ``linux/amd64``.
        systemd_cgroups: the default handler leaves cgroups to systemd.
        lacks_resource: without CAP_SYS_RESOURCE, no unit can lower its OOM score.
        nri: the socket of its NRI, or an empty text where it is too old to require a plugin.
    """

    version: Version
    config: bytes = field(repr=False)
    base_specs: Mapping[str, bytes] = field(repr=False)
    handlers: Mapping[str, str]
    sandbox: str
    snapshotter: str
    certs: str
    platform: str
    systemd_cgroups: bool
    lacks_resource: bool
    nri: str
    sandbox_named: str = ""
    effective: Mapping[str, Any] = field(repr=False, default_factory=dict)


def survey(node: Node, layout: Layout) -> Survey:
    """Ask a node.

    Raises:
        MissingError: there is no containerd, or one that is too old.
        InfrastructureError: its configuration cannot be read.
    """
    version = _version(node)
    effective = tomllib.loads(node.run(["containerd", "config", "dump"]).text)
    plugins: Mapping[str, Any] = effective.get("plugins", {})
    images = plugins.get(IMAGES, {})
    runtimes = plugins.get(RUNTIME, {}).get("containerd", {})
    handlers: dict[str, Mapping[str, Any]] = runtimes.get("runtimes", {})
    first = str(runtimes.get("default_runtime_name", ""))
    ordered = sorted(handlers, key=lambda name: name != first)
    sandbox = str(images.get("pinned_images", {}).get("sandbox", ""))
    machine = node.run(["uname", "-m"]).text or platform.machine()
    specs, paths = _base_specs(
        node, layout, {name: str(handlers[name].get("base_runtime_spec", "")) for name in ordered}
    )
    return Survey(
        version=version,
        config=_config(node),
        base_specs=specs,
        handlers=paths,
        sandbox=_by_digest(node, sandbox),
        snapshotter=str(images.get("snapshotter") or DEFAULT_SNAPSHOTTER),
        certs=certs(images, layout),
        platform=f"linux/{ARCHITECTURES.get(machine, machine)}",
        systemd_cgroups=bool(handlers.get(first, {}).get("options", {}).get("SystemdCgroup")),
        lacks_resource=not has_capability(node, CAP_SYS_RESOURCE),
        nri=nri.socket(effective, version),
        sandbox_named=sandbox,
        effective=effective,
    )


def certs(images: Mapping[str, Any], layout: Layout) -> str:
    """Return the folder of hosts.toml files that the CRI plugin reads, by its table for images; else the usual one."""
    return str(images.get("registry", {}).get("config_path", "")).partition(":")[0] or layout.certs


def _version(node: Node) -> Version:
    asked = node.run(["sh", "-c", "command -v containerd >/dev/null && containerd --version"], check=False)
    version = parse(asked.text)
    if asked.code or version is None:
        raise MissingError("there is no containerd", where=node.name, do="install containerd 2.1 or newer there")
    if version < OLDEST:
        raise MissingError(
            f"containerd {version[0]}.{version[1]}",
            where=node.name,
            expected="2.1 or newer: before, the name that a hook sees is not what was written",
        )
    return version


def parse(text: str) -> Version | None:
    """Return the version in what ``containerd --version`` prints, or None.

    A release candidate counts as the release before: it need not have its fixes.
    """
    found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)(-(?:alpha|beta|rc)\S*)?", text)
    if not found:
        return None
    major, minor, patch = (int(part) for part in found.groups()[:3])
    return major, minor, patch - 1 if found[4] else patch


def _config(node: Node) -> bytes:
    """Return the configuration in the present format; an older one as containerd itself translates it."""
    if not node.exists(CONFIG):
        return b"version = 3\n"
    content = node.get(CONFIG)
    if adapt.format_version(content) < adapt.READABLE:
        return node.run(["containerd", "--config", CONFIG, "config", "migrate"]).stdout
    return content


def _base_specs(node: Node, layout: Layout, used: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return our base specs by path, and each handler's path; ``used`` are those that handlers have now."""
    specs: dict[str, bytes] = {}
    paths: dict[str, str] = {}
    for handler, path in used.items():
        ours = path if path.startswith(f"{layout.etc}/") else f"{layout.etc}/base-{handler}.json"
        specs[ours] = node.get(path) if path else node.run(["ctr", "oci", "spec"]).stdout
        paths[handler] = ours
    if not paths:
        raise InfrastructureError("has no runtime handler", where=f"{node.name}: {CONFIG}")
    return specs, paths


def _by_digest(node: Node, reference: str) -> str:
    """Return an image of the node's store as ``repository@digest``, or an empty text."""
    from countersign.oci.reference import parse

    if not reference or "@" in reference:
        return reference
    found = targets(node).get(reference)
    return f"{parse(reference).name}@{found}" if found else ""


def targets(node: Node, *filters: str) -> dict[str, str]:
    """Return image name → digest of every image in CRI's store that passes containerd's ``filters``."""
    lines = node.run(["ctr", "--namespace", NAMESPACE, "images", "ls", *filters]).text.splitlines()[1:]
    found = (line.split() for line in lines)
    return {name: digest for name, _, digest, *_ in found}
