"""CRI-O's own files, from the policy and from what the node has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from countersign.enforcement.layout import Layout
from countersign.nodes.steps import File, Folder
from countersign.nodes.template import render
from countersign.policy.canary import REGISTRY as RESERVED
from crio.paths import Paths

if TYPE_CHECKING:
    from countersign.enforcement.additions import Addition
    from countersign.nodes.node import Node

HERE = Path(__file__).resolve().parent
Engine = Literal["strict", "lenient"]
ACCEPT = [{"type": "insecureAcceptAnything"}]


def drop_in(paths: Paths, hooks_dirs: Sequence[str], sandbox: str) -> bytes:
    """Return our file of crio.conf.d.

    Args:
        paths: where everything lies.
        hooks_dirs: the folders of hooks that the node has itself.
        sandbox: the sandbox image by digest; empty leaves the node's own.
    """
    others = [folder for folder in hooks_dirs if folder != paths.hooks]
    return render(HERE / "drop_in.conf.j2", paths=paths, hooks_dirs=[*others, paths.hooks], sandbox=sandbox)


def hook(layout: Layout) -> bytes:
    """Return our hook for hooks.d (oci-hooks(5), version 1.0.0)."""
    return render(HERE / "hook.json.j2", hook=layout.hook, socket=layout.gate_socket)


@dataclass(frozen=True)
class Native:
    """What CRI-O's own engine is given.

    Attributes:
        policy: containers-policy.json(5).
        keys: path on the node → public key, PEM.
        registries_d: containers-registries.d(5).
    """

    policy: bytes
    keys: Mapping[str, bytes] = field(repr=False)
    registries_d: bytes

    def files(self, node: Node, paths: Paths) -> list[File]:
        """Return them as files of a node, the policy last: it names the keys."""
        keys = [File(node, path, content) for path, content in self.keys.items()]
        return [*keys, File(node, paths.registries_d, self.registries_d), File(node, paths.policy, self.policy)]


def native(source: Path, paths: Paths, pins: Sequence[str], engine: Engine, tags: Sequence[str] = ()) -> Native:
    """Return what CRI-O's engine is given for a policy.yaml.

    Args:
        source: the policy.yaml.
        paths: where everything lies.
        pins: what set-up pinned beside it, ``repository@digest``.
        engine: ``strict`` lets it refuse whatever it cannot verify; ``lenient`` lets pass what the gate
            verifies at start, and still refuses what is in no scope or rejected.
        tags: names of pinned images by tag, which kubelets pull; the gate decides about them by digest.

    Raises:
        UsageError: the policy is invalid.
    """
    from countersign.policy import crio
    from countersign.policy.load import load

    found = load(source)
    document = json.loads(crio.policy_json(found, paths.keys, extra_pins=tuple(pins), accept_tags=tuple(tags)))
    if engine == "lenient":
        document["transports"]["docker"] = lenient(document["transports"]["docker"])
    return Native(as_json(document), crio.key_files(found, paths.keys), crio.registries_d(found))


def lenient(scopes: Mapping[str, Any]) -> dict[str, Any]:
    """Return scopes in which what asks for signatures, but for the canary's, is left to the gate."""
    signed = [name for name, rule in scopes.items() if rule[0]["type"] == "sigstoreSigned"]
    return {**scopes, **{name: ACCEPT for name in signed if name != RESERVED}}


def accepting() -> bytes:
    """Return a policy under which CRI-O's engine lets everything pass: for trials of the gate alone."""
    return as_json({"default": ACCEPT})


def as_json(document: Mapping[str, Any]) -> bytes:
    """Return a JSON document as it is written to nodes."""
    return (json.dumps(document, indent=2) + "\n").encode()


def registry_files(node: Node, paths: Paths, addition: Addition, *, short_names: bool) -> list[File]:
    """Return the way to the registries of an addition.

    Args:
        node: the node.
        paths: where everything lies there.
        addition: what the node is given beside enforcement.
        short_names: short names lead there, too (only where CRI-O is all ours).
    """
    from countersign.policy.crio import attachments_of, registries_conf

    found = {name: (url.partition("://")[2], url.startswith("http:")) for name, url in addition.urls.items()}
    content = registries_conf(found)
    if short_names:
        content = b'unqualified-search-registries = ["docker.io"]\n\n' + content
    tls = {location for location, insecure in found.values() if not insecure}
    cas = [File(node, f"{paths.certs}/{location}/ca.crt", addition.ca) for location in sorted(tls)]
    signatures = attachments_of({location for location, _ in found.values()})
    return [*cas, File(node, paths.demo_registries_d, signatures), File(node, paths.registries_conf, content)]


def folders(files: Sequence[File], layout: Layout) -> list[Folder]:
    """Return the folders in which files are to lie."""
    nodes = {file.path.rpartition("/")[0]: file.node for file in files}
    return [Folder(node, path, record=layout.folders_made) for path, node in nodes.items()]
