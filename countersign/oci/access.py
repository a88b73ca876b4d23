"""The registry client as the configuration wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from countersign.console.config import Settings
from countersign.oci.proxy import from_environment
from countersign.oci.registry import Registry

_SYSTEM_HOSTS = Path("/etc/containerd/certs.d")


def etc(settings: Settings) -> Path:
    """Return the folder in which a place keeps this machine's own way to the demo's registries."""
    if settings.node == "vagrant" or "://" in settings.node:
        return remote_folder(settings.state) / "etc"
    own = "crio" if settings.room == "crio" else "host"
    return settings.state / ("kind" if settings.node == "kind" else own) / "etc"


def remote_folder(state: Path) -> Path:
    """Return where everything about the demo's registries for machines over SSH is kept on this machine.

    An earlier set-up made it under its former name, which holds as long as the folder is there.
    """
    former = state / "lent"
    return former if former.is_dir() else state / "remote"


def hosts_folder(settings: Settings) -> Path | None:
    """Return the certs.d that set-up made for the configured place, else this machine's containerd's, else None."""
    return next((folder for folder in (etc(settings) / "certs.d", _SYSTEM_HOSTS) if folder.is_dir()), None)


def docker_configs(settings: Settings) -> list[Path]:
    """Return the files with logins, the first going before the next.

    They are ``registry.docker_config`` or else the user's own (``credential_files``), and then what set-up made: the
    demo's own registry has its login there.
    """
    named, ours = settings.registry.docker_config, etc(settings) / "docker.json"
    return [*([named] if named else credential_files(os.environ)), *([ours] if ours.is_file() else [])]


def registry(settings: Settings) -> Registry:
    """Return a client that reaches registries as the configured place does.

    Hosts come from what set-up made (``<state>/<place>/etc/certs.d``), else from this machine's containerd; logins from
    ``docker_configs``; proxies from the environment.

    Raises:
        BadConfig: a variable names a proxy that cannot be used.
    """
    return Registry(
        hosts_folder(settings),
        docker_configs(settings),
        allow_http=settings.registry.allow_http,
        proxies=from_environment(os.environ),
    )


def credential_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files in which docker, podman and cosign look for logins, the first going before the next.

    ``REGISTRY_AUTH_FILE`` alone if it is set, whether the file is there or not; else those that are there of
    containers-auth.json(5)'s ``auth.json`` and of docker's ``config.json`` (in ``DOCKER_CONFIG``, else ``~/.docker``).
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
