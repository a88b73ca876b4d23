"""The registry client as the configuration wants it."""

from __future__ import annotations

from pathlib import Path

from console.config import Settings
from oci.registry import Registry

_SYSTEM_HOSTS = Path("/etc/containerd/certs.d")


def registry(settings: Settings) -> Registry:
    """Return a client that reaches registries as this project's node on this host does.

    Hosts come from the node that set-up made (``<state>/host/etc/certs.d``), else from this machine's containerd;
    credentials from ``registry.docker_config``, else from that node's.
    """
    node = settings.state / "host" / "etc"
    hosts = next((folder for folder in (node / "certs.d", _SYSTEM_HOSTS) if folder.is_dir()), None)
    credentials = settings.registry.docker_config
    if credentials is None and (node / "docker.json").is_file():
        credentials = node / "docker.json"
    return Registry(hosts, credentials, allow_http=settings.registry.allow_http)
