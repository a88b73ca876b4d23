"""How a node reaches registries: hosts.toml files for those of a lab, and the Docker config with logins."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import UsageError
from countersign.nodes.steps import File, Folder, Group
from countersign.nodes.template import render
from countersign.oci import credentials

if TYPE_CHECKING:
    from countersign.cri.model import Auth
    from countersign.enforcement.additions import Addition
    from countersign.nodes.node import Node

HOSTS = Path(__file__).with_name("hosts.toml.j2")


def hosts_file(node: Node, certs: str, name: str, url: str, ca: str = "") -> File:
    """Return the hosts.toml that leads from a registry's name to where it is; ``ca`` is a path on the node."""
    return File(node, f"{certs}/{name}/hosts.toml", render(HOSTS, url=url, ca=ca))


def hosts_files(node: Node, certs: str, urls: Mapping[str, str], ca: bytes) -> list[File]:
    """Return what leads to registries: one folder a name, with its hosts.toml and, for HTTPS, the CA.

    Args:
        node: the node.
        certs: its folder ``certs.d``.
        urls: registry name → the URL under which it is reached.
        ca: the certificate of the CA behind the HTTPS ones.
    """
    found = []
    for name, url in urls.items():
        path = f"{certs}/{name}/ca.crt" if url.startswith("https:") else ""
        found += [File(node, path, ca)] if path else []
        found.append(hosts_file(node, certs, name, url, path))
    return found


def way(node: Node, certs: str, addition: Addition) -> list[Group]:
    """Return the step by which a node finds the registries of an addition; none where it has none."""
    if not addition.urls:
        return []
    hosts = hosts_files(node, certs, addition.urls, addition.ca)
    folders = [Folder(node, path) for path in dict.fromkeys(file.path.rpartition("/")[0] for file in hosts)]
    return [Group(node, f"the way to the demo's registries ({certs})", [*folders, *hosts])]


def docker_config(users: Path | None, logins: Mapping[str, Auth]) -> bytes:
    """Return a Docker config.json with the ``auths`` of the user's own and of a lab's registries.

    Credential helpers are programs of the user's machine: a registry that has one gets an empty entry, by which
    `countersign.enforcement.access` can tell why the node has no credentials for it.

    Args:
        users: the user's own file.
        logins: registry name → what is needed there.

    Raises:
        UsageError: the user's file is not a Docker config.
    """
    auths: dict[str, Any] = {}
    if users:
        try:
            found = credentials.document(users.read_bytes())
            auths |= {name: {} for name in found.get("credHelpers") or {}}
            auths |= found.get("auths") or {}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise UsageError(f"cannot be read as a Docker config ({error})", where=str(users)) from None
    auths |= {name: {"auth": basic(login)} for name, login in logins.items()}
    return (json.dumps({"auths": auths}, indent=2, sort_keys=True) + "\n").encode()


def basic(login: Auth) -> str:
    """Return a login as an ``auth`` of a Docker config."""
    return base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
