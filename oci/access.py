"""The registry client as the configuration wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping
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


def registry(settings: Settings) -> Registry:
    """Return a client that reaches registries as the configured place does.

    Hosts come from what set-up made (``<state>/<place>/etc/certs.d``), else from this machine's containerd; logins from
    the user's files (``credential_files``), and then from what set-up made: the demo's own registry has one there.
    """
    ours = etc(settings)
    hosts = next((folder for folder in (ours / "certs.d", _SYSTEM_HOSTS) if folder.is_dir()), None)
    named = settings.registry.docker_config
    files = [named] if named else credential_files(os.environ)
    if (ours / "docker.json").is_file():
        files.append(ours / "docker.json")
    return Registry(hosts, files, allow_http=settings.registry.allow_http)


def credential_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files in which docker, podman and cosign look for logins, the first going before the next.

    ``REGISTRY_AUTH_FILE`` alone if it is set, whether the file is there or not; else those that are there of
    containers-auth.json(5)'s ``auth.json`` and of docker's ``config.json`` (in ``DOCKER_CONFIG``, else ``~/.docker``).

    Args:
        environ: the environment.
    """
    if only := environ.get("REGISTRY_AUTH_FILE"):
        return [Path(only)]
    runtime, home = environ.get("XDG_RUNTIME_DIR"), environ.get("HOME", "")
    candidates = [
        f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json",
        f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json",
        f"{environ.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json",
    ]
    return [Path(path) for path in candidates if os.path.isfile(path)]  # noqa: PTH113  false where we may not look
