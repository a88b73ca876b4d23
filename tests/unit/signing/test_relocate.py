"""Relocation takes all that hangs on an image, from all three places, and leaves nothing half there."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from countersign.keys import pair as keys
from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed, NotFound, RegistryError, Tampered
from countersign.oci.files import Archive, Folder, pack
from countersign.oci.layouts import Layout, NewLayout
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.oci.repository import Repository
from signing import among, attachment, gather, places, relocate, sign, stored
from signing.gather import Stock
from signing.signer import ByKey
from tests.fake_registry import FakeRegistry, Reply, Request, serving
from tests.images import hang, push_image, push_index

REF_NAME = "org.opencontainers.image.ref.name"
KEY, OTHER_KEY = keys.generate(), keys.generate()


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """A second registry, where images go."""
    with serving() as server:
        yield server


def made(fake: FakeRegistry) -> tuple[Registry, str, Descriptor, Descriptor]:
    """Push an index of two platforms with something in every place; return its SBOM's descriptor too."""
    registry, name = Registry(), fake.name()
    platforms = {f"linux/{one}": push_image(registry, name, "", one) for one in ("amd64", "arm64")}
    index = push_index(registry, name, "v1", platforms)
    for target in sign.targets(registry, parse(f"{name}:v1")):
        sign.sign(registry, name, target, KEY)
    sbom = hang(registry, name, index, "text/spdx")
    sign.sign(registry, name, sbom, KEY, ["bundle"])  # a referrer of a referrer
    hang(registry, name, platforms["linux/arm64"], "application/vnd.cncf.notary.signature")
    for suffix in (".att", ".sbom"):
        content, _ = registry.manifest(name, "sha256-" + index.digest[7:] + ".sig")
        registry.put_manifest(name, digests.tag(index.digest, suffix), content, OCI_MANIFEST)
    return registry, name, index, sbom


def carried(stock: Stock, source: gather.Source, target: relocate.Target) -> relocate.Carried:
    return relocate.carry(stock, source, target)


@pytest.mark.parametrize("api", [True, False], ids=["api", "fallback"])
def test_all_that_hangs_on_it_arrives(fake: FakeRegistry, other: FakeRegistry, api: bool) -> None:
    fake.referrers_api, other.referrers_api = api, not api
    registry, name, index, sbom = made(fake)
    source, target = Repository(registry, name), Repository(Registry(), other.name("mirror/app"))
    stock = gather.gather(source, "v1")
    assert len(stock.referrers[index.digest]) == 2
    assert len(stock.tags) == 5
    carried(stock, source, target)
    target.put_manifest("v1", stock.manifests[index.digest][0], index.media_type)
    arrived = gather.gather(Repository(Registry(), target.name), "v1")
    assert arrived.manifests == stock.manifests
    assert arrived.parts == stock.parts
    assert arrived.tags == stock.tags
    assert {digest: {one.digest for one in found} for digest, found in arrived.referrers.items()} == {
        digest: {one.digest for one in found} for digest, found in stock.referrers.items()
    }
    assert [one.digest for one in arrived.referrers[sbom.digest]] == [stock.referrers[sbom.digest][0].digest]


def test_a_layout_and_an_archive_keep_it_all(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path) -> None:
    registry, name, index, _ = made(fake)
    source = Repository(registry, name)
    stock = gather.gather(source, "v1")
    with places.destination(places.read(f"oci-archive:{tmp_path}/x.tar", "--to"), registry) as target:
        carried(stock, source, target)
        target.put_manifest("v1", stock.manifests[index.digest][0], index.media_type)
        assert not (tmp_path / "x.tar").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    packed = Layout(Archive(tmp_path / "x.tar"))
    for reference in ("v1", "", index.digest):
        assert gather.gather(packed, reference).manifests == stock.manifests
    target = Repository(Registry(), other.name())
    carried(gather.gather(packed, "v1"), packed, target)
    assert gather.gather(target, index.digest).tags == stock.tags


def test_one_that_fails_leaves_no_tag_and_is_taken_up_again(fake: FakeRegistry, other: FakeRegistry) -> None:
    registry, name, _, _ = made(fake)
    source, target = Repository(registry, name), Repository(Registry(), other.name())
    stock = gather.gather(source, "v1")
    taken: list[Request] = []

    def full(request: Request) -> Reply | None:
        if request.method != "PUT" or "blobs" not in request.path:
            return None
        taken.append(request)
        return Reply(507, b"full") if len(taken) > 3 else None

    other.faults.append(full)
    with pytest.raises(RegistryError, match="507"):
        carried(stock, source, target)
    assert other.manifests == {}
    other.faults.clear()
    sent = len(other.blobs)
    again = carried(stock, source, target)
    assert (again.present, again.copied) == (sent, len(stock.parts) - sent)
    assert all(":" in reference or reference.startswith("sha256-") for _, reference in other.manifests)


def test_what_the_destination_has_under_an_attachments_tag_stays(fake: FakeRegistry, other: FakeRegistry) -> None:
    registry, there = Registry(), other.name()
    image = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), image, KEY, ["attachment"])
    same = push_image(registry, there, "v1")
    assert same.digest == image.digest
    sign.sign(registry, there, same, OTHER_KEY, ["attachment"])
    source = Repository(registry, fake.name())
    stock = gather.gather(source, "v1")
    for _ in range(2):
        carried(stock, source, Repository(registry, there))
        assert len(stored.listed(registry, there, image.digest, "attachment")) == 2
    assert sign.there(registry, there, image.digest, ByKey(OTHER_KEY), "attachment")


def test_attachments_name_their_repository_and_bundles_none(fake: FakeRegistry) -> None:
    registry, name, index, _ = made(fake)
    stock = gather.gather(Repository(registry, name), "v1")
    assert stock.names[index.digest] == [name]
    assert len(stock.names) == 3
    only = push_image(registry, name, "v2", "bundle only")
    sign.sign(registry, name, only, KEY, ["bundle"])
    assert gather.gather(Repository(registry, name), "v2").names == {}


def test_blobs_of_another_repository_are_mounted(fake: FakeRegistry) -> None:
    registry, name, index, _ = made(fake)
    source, target = Repository(registry, name), Repository(registry, fake.name("b/app"))
    stock = gather.gather(source, "v1")

    def mounts(request: Request) -> Reply | None:
        if request.method == "HEAD" and "/b/app/blobs/" in request.path:
            return Reply(404)
        return Reply(201) if request.method == "POST" and request.query.get("from") == ["demo/app"] else None

    fake.faults.append(mounts)
    assert carried(stock, source, target).mounted == len(stock.parts)
    assert fake.asked("PUT", "/blobs/") == [] or all("/b/app/" not in one.path for one in fake.asked("PUT", "/blobs/"))
    assert index.digest in {reference for repository, reference in fake.manifests if repository == "b/app"}


def test_bytes_that_are_not_those_of_their_digest_go_nowhere(
    fake: FakeRegistry, other: FakeRegistry, tmp_path: Path
) -> None:
    registry, name, _, _ = made(fake)
    source = Repository(registry, name)
    stock = gather.gather(source, "v1")
    part = next(one for one in stock.parts.values() if one.digest not in stock.payloads)
    whole = fake.blobs[part.digest]
    fake.blobs[part.digest] = whole[:-1] + b"?"
    with pytest.raises(Tampered, match=part.digest):
        carried(stock, source, Repository(Registry(), other.name()))
    assert part.digest not in other.blobs
    assert other.manifests == {}
    fake.blobs[part.digest] = whole
    carried(stock, source, NewLayout(tmp_path / "layout"))
    (tmp_path / "layout" / "blobs" / "sha256" / part.digest[7:]).write_bytes(whole[:-1] + b"?")
    with pytest.raises(Tampered, match=part.digest):
        Layout(NewLayout(tmp_path / "layout")._files).fetch(part, io.BytesIO())


def test_an_index_that_names_itself_or_too_much_ends(fake: FakeRegistry) -> None:
    registry, name = Registry(), fake.name()
    image = push_image(registry, name)
    for _ in range(14):
        image = push_index(registry, name, "deep", {"linux/amd64": image})
    with pytest.raises(Malformed, match="nests too deep"):
        gather.gather(Repository(registry, name), "deep")
    shallow = push_index(registry, name, "ok", {"linux/amd64": push_image(registry, name)})
    assert gather.gather(Repository(registry, name), "ok").root == shallow


def archive_of(folder: Path, into: Path) -> Path:
    with into.open("wb") as file:
        pack(folder, file)
    return into


@pytest.fixture
def layout(fake: FakeRegistry, tmp_path: Path) -> Path:
    registry = Registry()
    image = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), image, KEY)
    source = Repository(registry, fake.name())
    target = NewLayout(tmp_path / "layout")
    carried(gather.gather(source, "v1"), source, target)
    target.put_manifest("v1", source.manifest("v1")[0], image.media_type)
    return tmp_path / "layout"


def test_an_archive_that_is_cut_off_is_said_to_be(layout: Path, tmp_path: Path) -> None:
    whole = archive_of(layout, tmp_path / "whole.tar")
    assert Layout(Archive(whole)).manifest("v1")
    with tarfile.open(whole) as archive:
        files = [each for each in archive.getmembers() if each.isfile()]
    middle = files[len(files) // 2]
    for at in (1, 700, middle.offset_data + middle.size // 2):
        (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:at])
        with pytest.raises(UsageError, match=r"cut off|no index\.json|no tar archive"):
            gather.gather(Layout(Archive(tmp_path / "cut.tar")), "v1")
    for each in files:  # between two files, where it looks whole but for its end
        (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[: each.offset])
        with pytest.raises(UsageError, match="cut off or no tar archive"):
            Archive(tmp_path / "cut.tar")


def test_a_layout_that_lacks_what_its_index_names_is_said_to(layout: Path) -> None:
    """Bundles are named by nothing else: they would be lost without a word."""
    gather.gather(Layout(Folder(layout)), "v1")
    for entry in json.loads((layout / "index.json").read_text())["manifests"]:
        blob = layout / "blobs" / "sha256" / entry["digest"][7:]
        kept = blob.read_bytes()
        blob.unlink()
        with pytest.raises(NotFound, match=r"index\.json names it|lacks this file"):
            gather.gather(Layout(Folder(layout)), "v1")
        blob.write_bytes(kept)


@pytest.mark.parametrize(("head", "kind"), [(b"\x1f\x8b\x08\x00", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")])
def test_a_compressed_archive_is_named_as_one(tmp_path: Path, head: bytes, kind: str) -> None:
    (tmp_path / "x.tar").write_bytes(head + b"x" * 2000)
    with pytest.raises(UsageError, match=f"compressed with {kind}"):
        Archive(tmp_path / "x.tar")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file_in_an_archive_is_not_there(layout: Path, tmp_path: Path, kind: bytes) -> None:
    path = archive_of(layout, tmp_path / "x.tar")
    with tarfile.open(path, "a") as archive:
        entry = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    assert "blobs/sha256/" + "0" * 64 not in Archive(path).sizes()
    assert Layout(Archive(path)).manifest("v1")


def test_a_link_in_a_layout_leads_nowhere(layout: Path, tmp_path: Path) -> None:
    secret = b'{"schemaVersion":2}'
    (tmp_path / "secret").write_bytes(secret)
    (layout / "blobs" / "sha256" / digests.of(secret)[7:]).symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        Layout(NewLayout(layout)._files).manifest(digests.of(secret))


def test_referrers_that_index_json_does_not_list_are_found(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] = [one for one in index["manifests"] if one.get("annotations", {}).get(REF_NAME) == "v1"]
    (layout / "index.json").write_text(json.dumps(index))
    stock = gather.gather(Layout(NewLayout(layout)._files), "v1")
    assert sum(map(len, stock.referrers.values())) == 1


def test_attachments_of_one_image_united_have_both() -> None:
    one = attachment.sign(KEY, attachment.payload("r.example/app", "sha256:" + "1" * 64))
    two = attachment.sign(OTHER_KEY, attachment.payload("r.example/app", "sha256:" + "1" * 64))
    first, _ = attachment.appended(None, one, "first")
    second, _ = attachment.appended(None, two, "second")
    both = relocate.united(first, second, "both")
    assert both is not None
    assert [signature for _, signature in attachment.listed(both[0], "both")] == [one.signature, two.signature]
    assert json.loads(both[1])["rootfs"]["diff_ids"] == [one.layer.digest, two.layer.digest]
    assert relocate.united(both[0], second, "both") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("r.example/app:v1", "r.example/app:v1"),
        ("docker://r.example/app", "r.example/app"),
        ("r.example:5000/app", "r.example:5000/app"),
        ("oci:some/folder", "oci:some/folder"),
        ("oci:some/folder:v1", "oci:some/folder:v1"),
        ("oci-archive:/x.tar:v2", "oci-archive:/x.tar:v2"),
    ],
)
def test_what_users_write(text: str, shown: str) -> None:
    assert str(places.read(text, "--to")) == shown


@pytest.mark.parametrize("text", ["", "oci:", "oci:folder:bad/tag:!", "docker-archive:x", "https://r/x", "UPPER/x:y:z"])
def test_what_users_mistype(text: str) -> None:
    with pytest.raises(UsageError):
        places.read(text, "--to")


def test_a_tag_that_is_left_out_is_the_sources() -> None:
    source = places.read("r.example/app:v7", "--source")
    assert places.aimed(source, places.read("m.example/app", "--to")).tag == "v7"
    assert places.aimed(source, places.read("m.example/app:v8", "--to")).tag == "v8"
    by_digest = places.read("r.example/app@sha256:" + "1" * 64, "--source")
    assert places.aimed(by_digest, places.read("m.example/app", "--to")).tag == ""
    with pytest.raises(UsageError, match="not the source's digest"):
        places.aimed(source, places.read("m.example/app@sha256:" + "2" * 64, "--to"))


@pytest.mark.parametrize("to", ["oci:/proc/nowhere", "oci-archive:/proc/nowhere.tar"])
def test_where_nothing_can_be_written_is_said(to: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"), places.destination(places.read(to, "--to"), Registry()):
        pytest.fail("it could be")


def test_a_list_of_names_that_names_nothing_is_said_to(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# none\n\n")
    with pytest.raises(UsageError, match="names nothing"):
        among.images(Registry(), [f"@{tmp_path}/list"])
