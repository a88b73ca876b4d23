import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from countersign.oci.build import VARIANT_LABEL, variant, write_layout

PLATFORMS = ("linux/amd64", "linux/arm64")


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make(tmp_path, "layout")


def make(folder: Path, name: str) -> Path:
    """Make a layout whose programs' files differ in time and mode from call to call."""
    programs = {}
    for platform in PLATFORMS:
        programs[platform] = folder / f"{name}-{platform.replace('/', '-')}"
        programs[platform].write_bytes(f"program for {platform}".encode() * 100)
    (folder / name).mkdir()
    write_layout(folder / name, "demo", programs)
    return folder / name


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Return a blob, after comparing it with all that its descriptor says."""
    content = Path(layout, "blobs", "sha256", descriptor["digest"].removeprefix("sha256:")).read_bytes()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == descriptor["digest"]
    assert len(content) == descriptor["size"]
    return content


def read(layout: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the image index, its manifests and their configs."""
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (top,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    index = json.loads(blob(layout, top))
    assert index["mediaType"] == top["mediaType"] == "application/vnd.oci.image.index.v1+json"
    manifests = [json.loads(blob(layout, entry)) for entry in index["manifests"]]
    return index, manifests, [json.loads(blob(layout, manifest["config"])) for manifest in manifests]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_index_names_a_manifest_for_each_platform(layout: Path) -> None:
    index, manifests, configs = read(layout)
    assert [f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in index["manifests"]] == [
        *PLATFORMS
    ]
    assert [config["architecture"] for config in configs] == ["amd64", "arm64"]
    assert {config["created"] for config in configs} == {"1970-01-01T00:00:00Z"}
    assert {manifest["mediaType"] for manifest in manifests} == {"application/vnd.oci.image.manifest.v1+json"}


def test_the_only_layer_holds_the_program_which_is_the_entry_point(layout: Path) -> None:
    _, manifests, configs = read(layout)
    for platform, manifest, config in zip(PLATFORMS, manifests, configs, strict=True):
        (layer,) = manifest["layers"]
        archive = gzip.decompress(blob(layout, layer))
        assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(archive).hexdigest()]
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            (entry,) = tar.getmembers()
            assert (entry.name, entry.mode, entry.uid, entry.mtime) == ("demo", 0o755, 0, 0)
            content = tar.extractfile(entry)
            assert content
            assert content.read().startswith(f"program for {platform}".encode())
        assert config["config"]["Entrypoint"] == ["/demo"]


def test_the_same_programs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = files(make(tmp_path, "one"))
    monkeypatch.setattr("time.time", lambda: 1_900_000_000.0)
    assert files(make(tmp_path, "two")) == first


def test_a_variant_differs_in_its_label_and_digests_alone(layout: Path, tmp_path: Path) -> None:
    other = variant(layout, "x", tmp_path / "variant")
    index, manifests, configs = read(layout)
    other_index, other_manifests, other_configs = read(other)
    for config, other_config in zip(configs, other_configs, strict=True):
        assert other_config["config"].pop("Labels") == {VARIANT_LABEL: "x"}
        assert other_config == config
    for manifest, other_manifest in zip(manifests, other_manifests, strict=True):
        assert other_manifest["layers"] == manifest["layers"]
        assert other_manifest["config"]["digest"] != manifest["config"]["digest"]
        blob(other, other_manifest["layers"][0])
    assert other_index != index


def test_a_marker_says_which_variant_it_is(layout: Path, tmp_path: Path) -> None:
    one, same, other = (
        files(variant(layout, marker, tmp_path / name)) for name, marker in [("1", "x"), ("2", "x"), ("3", "y")]
    )
    assert one == same
    assert one["index.json"] != other["index.json"]


def test_a_variant_of_a_variant_has_the_newer_marker(layout: Path, tmp_path: Path) -> None:
    twice = variant(variant(layout, "x", tmp_path / "x"), "y", tmp_path / "y")
    assert files(twice) == files(variant(layout, "y", tmp_path / "direct"))
