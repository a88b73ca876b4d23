"""Small images for tests: valid manifests without content."""

from __future__ import annotations

import json

from countersign.oci import descriptor, referrers
from countersign.oci.descriptor import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Descriptor
from countersign.oci.registry import Registry


def push_image(registry: Registry, name: str, tag: str = "", marker: str = "") -> Descriptor:
    """Push an image without layers, under its digest and ``tag``."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    config |= {"config": {"Labels": {"marker": marker}}}
    stored = registry.put_blob(name, json.dumps(config).encode(), OCI_CONFIG)
    content = descriptor.encode(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": stored.as_json(), "layers": []}
    )
    what = descriptor.of(content, OCI_MANIFEST)
    return registry.put_manifest(name, tag or what.digest, content, OCI_MANIFEST)


def push_index(registry: Registry, name: str, tag: str, platforms: dict[str, Descriptor]) -> Descriptor:
    """Push an index of manifests that are there, by platform ("linux/amd64")."""
    entries = []
    for platform, what in platforms.items():
        os, architecture = platform.split("/")
        entries.append(what.as_json() | {"platform": {"os": os, "architecture": architecture}})
    content = descriptor.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    return registry.put_manifest(name, tag, content, OCI_INDEX)


def hang(registry: Registry, name: str, subject: Descriptor, kind: str) -> Descriptor:
    """Hang something on a digest that is not a signature of ours."""
    layer = registry.put_blob(name, f"{kind} of {subject.digest}".encode(), kind)
    config = registry.put_blob(name, b"{}", OCI_EMPTY)
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "config": config.as_json()}
    manifest |= {"layers": [layer.as_json()], "subject": subject.as_json()}
    return referrers.add(registry, name, descriptor.encode(manifest))
