"""The registry client as the configuration wants it."""

from __future__ import annotations

from pathlib import Path

from console.config import Settings
from oci.registry import Registry

_SYSTEM_HOSTS = Path("/etc/containerd/certs.d")


def etc(settings: Settings) -> Path:
    """Return the folder in which a place keeps this machine's own way to the demo's registries."""
    if settings.node == "kind":
        place = "kind"
    elif settings.node == "vagrant" or "://" in settings.node:
        place = "lent"
    else:
        place = "crio" if settings.room == "crio" else "host"
    return settings.state / place / "etc"


def hosts_folder(settings: Settings) -> Path | None:
    """Return the certs.d that set-up made for the configured place, else this machine's containerd's, else None."""
    return next((folder for folder in (etc(settings) / "certs.d", _SYSTEM_HOSTS) if folder.is_dir()), None)


def docker_configs(settings: Settings) -> list[Path]:
    """Return the files with logins, the first going before the next: ``registry.docker_config``, and set-up's own."""
    named, ours = settings.registry.docker_config, etc(settings) / "docker.json"
    return [*([named] if named else []), *([ours] if ours.is_file() else [])]


def registry(settings: Settings) -> Registry:
    """Return a client that reaches registries as the configured place does.

    Hosts come from what set-up made (``<state>/<place>/etc/certs.d``), else from this machine's containerd;
    credentials from ``registry.docker_config``, else from what set-up made.
    """
    ours = etc(settings)
    credentials = settings.registry.docker_config
    if credentials is None and (ours / "docker.json").is_file():
        credentials = ours / "docker.json"
    return Registry(hosts_folder(settings), credentials, allow_http=settings.registry.allow_http)
