"""An image layout is pushed whole, children first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from countersign.oci import descriptor, layout
from countersign.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from countersign.oci.registry import Registry
from tests.fake_registry import FakeRegistry


def put(folder: Path, content: bytes, media_type: str) -> Descriptor:
    what = descriptor.of(content, media_type)
    path = folder / "blobs" / "sha256" / what.digest.removeprefix("sha256:")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return what


def image(folder: Path, marker: str) -> Descriptor:
    config = put(folder, json.dumps({"marker": marker}).encode(), OCI_CONFIG)
    layer = put(folder, marker.encode() * 1000, "application/vnd.oci.image.layer.v1.tar")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.as_json(), "layers": [layer.as_json()]}
    return put(folder, descriptor.encode(document), OCI_MANIFEST)


def write_index(folder: Path, entries: list[dict[str, object]]) -> None:
    (folder / "index.json").write_bytes(descriptor.encode({"schemaVersion": 2, "manifests": entries}))


@pytest.fixture
def multi(tmp_path: Path) -> tuple[Path, Descriptor]:
    """A layout with one index of two images."""
    children = [image(tmp_path, marker).as_json() for marker in ("amd64", "arm64")]
    index = put(
        tmp_path,
        descriptor.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}),
        OCI_INDEX,
    )
    write_index(tmp_path, [index.as_json()])
    return tmp_path, index


def test_everything_of_an_index_is_pushed(fake: FakeRegistry, multi: tuple[Path, Descriptor]) -> None:
    folder, index = multi
    assert layout.push(Registry(), fake.name(), folder, "v1") == index
    assert len(fake.blobs) == 4
    assert {reference for _, reference in fake.manifests} >= {"v1", index.digest}
    assert len(fake.manifests) == 4


def test_children_go_before_what_names_them(fake: FakeRegistry, multi: tuple[Path, Descriptor]) -> None:
    folder, _ = multi
    layout.push(Registry(), fake.name(), folder, "v1")
    assert fake.asked("PUT", "")[-1].path.endswith("/manifests/v1")
    kinds = ["manifest" if "/manifests/" in one.path else "blob" for one in fake.asked("PUT", "")]
    assert kinds == ["blob", "blob", "manifest"] * 2 + ["manifest"]


def test_of_several_images_the_named_one_is_chosen(tmp_path: Path) -> None:
    name = "org.opencontainers.image.ref.name"
    first, second = image(tmp_path, "a"), image(tmp_path, "b")
    entries = [first.as_json() | {"annotations": {name: "v1"}}, second.as_json() | {"annotations": {name: "v2"}}]
    write_index(tmp_path, entries)
    assert layout.root(tmp_path, "v2").digest == second.digest
    with pytest.raises(UsageError, match="2 images, 0 of them called 'v3'"):
        layout.root(tmp_path, "v3")


def test_a_folder_that_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no OCI layout"):
        layout.root(tmp_path)


def test_a_missing_blob(fake: FakeRegistry, multi: tuple[Path, Descriptor]) -> None:
    folder, index = multi
    (folder / "blobs" / "sha256" / index.digest.removeprefix("sha256:")).unlink()
    with pytest.raises(UsageError, match="lacks this blob"):
        layout.push(Registry(), fake.name(), folder, "v1")
    assert fake.requests == []


def test_a_manifest_that_was_changed(fake: FakeRegistry, multi: tuple[Path, Descriptor]) -> None:
    folder, index = multi
    path = folder / "blobs" / "sha256" / index.digest.removeprefix("sha256:")
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion":3'))
    with pytest.raises(UsageError, match="not that of its name"):
        layout.push(Registry(), fake.name(), folder, "v1")
