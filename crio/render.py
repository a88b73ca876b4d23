"""CRI-O's own files, from the policy and from what the node has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from countersign.enforcement.layout import Layout
from countersign.nodes.steps import File, Folder
from crio.paths import Paths

if TYPE_CHECKING:
    from countersign.enforcement.additions import Addition
    from countersign.nodes.node import Node
    from countersign.policy.crio import Rendered

Engine = Literal["strict", "lenient"]


def native(node: Node, paths: Paths, rendered: Rendered) -> list[File]:
    """Return what CRI-O's own engine is given as files of a node, the policy last: by it, more has to be signed."""
    return [File(node, paths.registries_d, rendered.registries_d), File(node, paths.policy, rendered.policy)]


def accepting() -> bytes:
    """Return a policy under which CRI-O's engine lets everything pass: for trials of the gate alone."""
    return b'{"default": [{"type": "insecureAcceptAnything"}]}\n'


def registry_files(node: Node, paths: Paths, addition: Addition, *, short_names: bool) -> list[File]:
    """Return the way to the registries of an addition.

    Args:
        node: the node.
        paths: where everything lies there.
        addition: what the node is given beside enforcement.
        short_names: short names lead there, too (only where CRI-O is all ours).
    """
    found = {name: (url.partition("://")[2], url.startswith("http:")) for name, url in addition.urls.items()}
    content = registries_conf(found)
    if short_names:
        content = b'unqualified-search-registries = ["docker.io"]\n\n' + content
    tls = {location for location, insecure in found.values() if not insecure}
    cas = [File(node, f"{paths.certs}/{location}/ca.crt", addition.ca) for location in sorted(tls)]
    signatures = attachments_of({location for location, _ in found.values()})
    return [*cas, File(node, paths.demo_registries_d, signatures), File(node, paths.registries_conf, content)]


def attachments_of(hosts: Iterable[str]) -> bytes:
    """Return containers-registries.d(5) that says of registries that their signatures lie beside their images.

    Without it an image is pulled without signatures, and refused at pull and at every later start. The engine
    asks it for the place where a registry really is: a mirror or another location counts under its own name.
    """
    import yaml

    return yaml.safe_dump({"docker": {host: {"use-sigstore-attachments": True} for host in sorted(hosts)}}).encode()


def registries_conf(registries: Mapping[str, tuple[str, bool]]) -> bytes:
    """Return containers-registries.conf(5), version 2.

    Args:
        registries: name in image references → where it is (``HOST:PORT``), and whether it speaks plain HTTP.
    """
    import tomlkit

    document = tomlkit.document()
    tables = tomlkit.aot()
    for name, (location, insecure) in sorted(registries.items()):
        table = tomlkit.table()
        table.update({"prefix": name, "location": location, "insecure": insecure})
        tables.append(table)
    document["registry"] = tables
    return tomlkit.dumps(document).encode()


def folders(files: Sequence[File], layout: Layout) -> list[Folder]:
    """Return the folders in which files are to lie."""
    nodes = {file.path.rpartition("/")[0]: file.node for file in files}
    return [Folder(node, path, record=layout.folders_made) for path, node in nodes.items()]
