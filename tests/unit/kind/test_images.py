from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

from countersign.tools.recipes import recipes
from kind import node_image
from kind.system_images import NAME, SystemImage, write_archive

MODULES = Path(node_image.__file__).parent / "kubernetes" / "go.mod"


def test_an_archive_names_its_images_and_its_layers_unpack_to_what_the_config_says(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = SystemImage("r.test/a:v1", {"usr/bin/a": program}, ["/usr/bin/a"], {"bin": "usr/bin"})
    write_archive(tmp_path / "a.tar", [image], "amd64")
    with tarfile.open(tmp_path / "a.tar") as archive:
        blobs = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    [top] = json.loads(blobs["index.json"])["manifests"]
    assert top["annotations"] == {NAME: "r.test/a:v1"}
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name.endswith(hashlib.sha256(content).hexdigest())
    manifest = json.loads(blobs["blobs/sha256/" + top["digest"].partition(":")[2]])
    config = json.loads(blobs["blobs/sha256/" + manifest["config"]["digest"].partition(":")[2]])
    layer = gzip.decompress(blobs["blobs/sha256/" + manifest["layers"][0]["digest"].partition(":")[2]])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        assert {member.name: member.linkname for member in files} == {"bin": "usr/bin", "usr/bin/a": ""}


def test_the_tag_of_the_node_image_names_kubernetes_and_stays_while_nothing_changes():
    version = re.escape(recipes()["kubernetes"].version)
    assert re.fullmatch(rf"countersign/kind-node:v{version}-[0-9a-f]{{12}}", node_image.wanted())
    assert node_image.wanted() == node_image.wanted()


def test_the_versions_of_kubernetes_and_etcd_are_those_of_its_go_module():
    text = MODULES.read_text()
    versions = dict(re.findall(r"^\s*(k8s\.io/kubernetes|go\.etcd\.io/etcd/server/v3) v(\S+)", text, re.MULTILINE))
    assert versions["k8s.io/kubernetes"] == recipes()["kubernetes"].version
    assert versions["go.etcd.io/etcd/server/v3"] + "-0" == node_image.ETCD_TAG
    assert (
        f"k8s.io/component-base/version.gitVersion=v{versions['k8s.io/kubernetes']}"
        in recipes()["kubernetes"].variables
    )


def test_kinds_default_pod_network_is_told_the_pod_subnet_and_the_control_plane():
    manifest = (node_image.IMAGE / "default-cni.yaml").read_text()
    assert "would you kindly template this file" in manifest
    assert "would you kindly patch this file" in manifest
    assert "{{ .PodSubnet }}" in manifest
    assert node_image.NETWORK in manifest
