"""Evidence is taken from nodes into one file."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement import layout
from countersign.enforcement.policy import Policy
from countersign.nodes.node import Result
from rollout import evidence
from rollout.places import Target
from signing.evidence import unite

DIGEST = "sha256:" + "1" * 64
NAME = "registry.example/app"


def archive(*blobs: str, name: str = NAME, folder: str = "0") -> bytes:
    image = {"name": name, "digest": DIGEST, "manifests": [], "folder": folder}
    files = {"evidence.json": json.dumps({"version": "countersign.evidence/v1", "images": [image]})}
    return packed(files | {f"{folder}/blobs/sha256/{blob}": blob for blob in blobs})


def packed(files: Mapping[str, str]) -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as opened:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content.encode()))
    return into.getvalue()


def unpacked(content: bytes) -> tuple[list[dict[str, Any]], set[str]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        document = json.load(opened.extractfile("evidence.json") or io.BytesIO())
        return document["images"], set(opened.getnames()) - {"evidence.json"}


class FakeNode:
    """A node whose gate answers so."""

    def __init__(self, name: str, code: int, out: str = "", err: str = "", kept: bytes = b"") -> None:
        self.name = name
        self._answer, self._kept = (code, out.encode(), err.encode()), kept
        self.asked: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], **_: object) -> Result:
        self.asked.append(argv)
        return Result(tuple(argv), *(self._answer if "export" in argv else (0, b"", b"")), 0.0)

    def get(self, path: str) -> bytes:
        assert path.endswith(evidence.TAKEN)
        return self._kept


def keeps(name: str, kept: bytes) -> FakeNode:
    document = {"images": [{"image": f"{NAME}@{DIGEST}", "signatures": 1}], "leftOut": []}
    return FakeNode(name, 0, json.dumps(document), kept=kept)


def taken(*nodes: FakeNode, images: Sequence[str] = ()) -> tuple[list[evidence.Taken], bytes]:
    reached: list[Any] = list(nodes)
    targets = [Target(one, Policy(one, layout.SYSTEM, Path(), ()), Path()) for one in reached]
    into = io.BytesIO()
    return evidence.take(targets, images, into), into.getvalue()


def test_what_two_nodes_keep_alike_is_in_the_file_once() -> None:
    found, content = taken(keeps("a", archive("x", "y")), keeps("b", archive("x", "y", folder="7")))
    assert [one.name for one in found] == ["a", "b"]
    images, names = unpacked(content)
    assert [one["folder"] for one in images] == ["0"]
    assert names == {"0/blobs/sha256/x", "0/blobs/sha256/y"}


def test_what_only_one_of_them_keeps_is_there_too() -> None:
    _, content = taken(keeps("a", archive("x")), keeps("b", archive("y")), FakeNode("c", 2, err="keeps no evidence"))
    images, names = unpacked(content)
    assert [one["folder"] for one in images] == ["0", "1"]
    assert names == {"0/blobs/sha256/x", "1/blobs/sha256/y"}


def test_only_some_images_are_asked_for_and_nothing_is_left_behind() -> None:
    node = keeps("a", archive("x"))
    taken(node, images=[f"{NAME}@{DIGEST}", NAME])
    assert node.asked[2][-4:] == ["--image", f"{NAME}@{DIGEST}", "--image", NAME]
    assert node.asked[-1][0] == "rm"


@pytest.mark.parametrize(
    ("node", "error", "saying"),
    [
        (FakeNode("a", 2, err="error: evidence export: this node keeps no evidence"), UsageError, "no node keeps"),
        (FakeNode("a", 2, err='error: unknown command "evidence export"'), UsageError, "does not know evidence export"),
        (FakeNode("a", 2, err="error: evidence export: a store knows no tags"), UsageError, "a store knows no tags"),
        (FakeNode("a", 4, err="error: evidence export: the disk is full"), InfrastructureError, "the disk is full"),
        (FakeNode("a", 0, out="rubbish"), InfrastructureError, "answer cannot be read"),
        (keeps("a", b"rubbish"), UsageError, "no archive of evidence"),
        (keeps("a", packed({"evidence.json": "[]"})), UsageError, "evidence.json cannot be read"),
        (keeps("a", packed({"other": "x"})), UsageError, "evidence.json cannot be read"),
    ],
)
def test_what_goes_wrong_is_said(node: FakeNode, error: type[Exception], saying: str) -> None:
    with pytest.raises(error, match=saying):
        taken(node)
    assert node.asked[-1][0] == "rm"


def test_a_node_that_was_never_set_up_is_said_to_be_one() -> None:
    class Bare(FakeNode):
        def run(self, argv: Sequence[str], **_: object) -> Result:
            self.asked.append(argv)
            return Result(tuple(argv), 1, b"", b"", 0.0)

    bare = Bare("a", 0)
    with pytest.raises(InfrastructureError, match="there is no gate"):
        taken(bare)
    assert [argv[0] for argv in bare.asked] == ["test"]


def test_there_is_a_bound_of_images() -> None:
    unite([archive(name=f"{NAME}/{number}") for number in range(256)], io.BytesIO())
    with pytest.raises(UsageError, match="257 images"):
        unite([archive(name=f"{NAME}/{number}") for number in range(257)], io.BytesIO())
