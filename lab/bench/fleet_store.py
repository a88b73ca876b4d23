"""What a node has of images and containers, as CRI-O keeps it (containers/storage), without any runtime.

The gate binds a container by reading these files, so real gates give real verdicts on them; all gates of the bench
share one storage, as if each node had pulled the same images.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DRIVER = "overlay"
_PLAIN = re.compile(r"[.0-9a-z]*")


def write(root: Path, run: Path, images: Mapping[str, Path]) -> dict[str, str]:
    """Write a storage with one created container of each image.

    Args:
        images: name with a tag → its OCI layout.

    Returns:
        name → the container's ID.
    """
    layers: dict[str, dict[str, Any]] = {}
    volatile, containers, records, found = [], [], [], {}
    for name, layout in images.items():
        record = _record(root, name, layout, layers)
        container = hashlib.sha256(f"container of {name}".encode()).hexdigest()
        own = hashlib.sha256(f"layer of {name}".encode()).hexdigest()
        volatile.append({"id": own, "parent": record["layer"]})
        metadata = {"pod-name": "fleet", "pod-id": "0" * 64, "image-name": name, "image-id": record["id"]}
        text = json.dumps(metadata)
        containers.append({"id": container, "image": record["id"], "layer": own, "metadata": text})
        _put(Path(bundle(run, container)) / "config.json", {"mounts": []})
        records.append(record)
        found[name] = container
    _put(root / f"{DRIVER}-containers" / "volatile-containers.json", containers)
    _put(root / f"{DRIVER}-containers" / "containers.json", [])
    _put(root / f"{DRIVER}-images" / "images.json", records)
    _put(root / f"{DRIVER}-layers" / "layers.json", list(layers.values()))
    _put(root / f"{DRIVER}-layers" / "volatile-layers.json", volatile)
    return found


def bundle(run: Path, container: str) -> str:
    """Return the folder of a container's bundle."""
    return f"{run}/{DRIVER}-containers/{container}/userdata"


def _record(root: Path, name: str, layout: Path, layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return an image's record, with its documents written and its layers added."""
    index = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    platforms: Sequence[Mapping[str, Any]] = json.loads(_blob(layout, index))["manifests"]
    ours = next(each["digest"] for each in platforms if each["platform"]["architecture"] == "amd64")
    config = json.loads(_blob(layout, ours))["config"]["digest"]
    top = ""
    for diff in json.loads(_blob(layout, config))["rootfs"]["diff_ids"]:
        layer = hashlib.sha256(f"{top} {diff}".encode()).hexdigest()
        layers[layer] = {"id": layer, "parent": top, "diff-digest": diff}
        top = layer
    data = {"manifest": ours, f"manifest-{ours}": ours, f"manifest-{index}": index, config: config}
    image = config.removeprefix("sha256:")
    for key, digest in data.items():
        _put(root / f"{DRIVER}-images" / image / _file(key), _blob(layout, digest))
    return {"id": image, "names": [name], "layer": top, "big-data-names": sorted(data)}


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def _file(key: str) -> str:
    """Return the name of the file that has a key's content (containers/storage, bigDataFilename)."""
    return key if _PLAIN.fullmatch(key) else f"={base64.b64encode(key.encode()).decode()}"


def _put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
