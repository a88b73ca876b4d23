"""What the old key signed is signed by the new one, found by the gate's engine, and what is left is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from signing import sign
from signing.rotate_tasks import rotate
from signing.signer import ByKey
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.images import push_image, push_index

OLD, NEW, OTHER = keys.generate(), keys.generate(), keys.generate()


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The old key's public file, and the new one's private file."""
    monkeypatch.setenv("COSIGN_PASSWORD", "pw")
    _, public = keyfiles.write(tmp_path / "old", OLD, b"pw")
    private, _ = keyfiles.write(tmp_path / "new", NEW, b"pw")
    return str(public), str(private)


def states(capsys: pytest.CaptureFixture[str]) -> Any:
    document = json.loads(capsys.readouterr().out)
    return {one["name"].rpartition(":")[2]: one["state"] for one in document["images"]}


def test_what_the_old_key_signed_is_signed_by_the_new_one(
    netloc: str, context: MockContext, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    registry, name = Registry(), f"{netloc}/rotate/app"
    index = push_index(registry, name, "old", {"linux/amd64": push_image(registry, name, "", "old")})
    for target in sign.targets(registry, parse(f"{name}:old")):
        sign.sign(registry, name, target, OLD)
    sign.sign(registry, name, push_image(registry, name, "stranger", "stranger"), OTHER)
    push_image(registry, name, "unsigned", "unsigned")
    both = push_image(registry, name, "both", "both")
    for key in (OLD, NEW):
        sign.sign(registry, name, both, key)
    old, new = pair
    wanted = {"both": "had both", "stranger": "not the old key's", "unsigned": "not the old key's"}
    rotate(context, [], [name], old=old, key=new, plan=True, json=True)
    assert states(capsys) == wanted | {"old": "to be signed"}
    assert not sign.there(registry, name, index.digest, ByKey(NEW), "bundle")
    sign.sign(registry, name, index, NEW)  # as a run that was cut off leaves it: the platform is still to be signed
    rotate(context, [], [name], old=old, key=new, json=True)
    assert states(capsys) == wanted | {"old": "signed again"}
    for target in sign.targets(registry, parse(f"{name}:old")):
        for chosen in ("attachment", "bundle"):
            assert sign.there(registry, name, target.digest, ByKey(NEW), chosen)
            assert sign.there(registry, name, target.digest, ByKey(OLD), chosen)
    rotate(context, [], [name], old=old, key=new, json=True)
    assert states(capsys) == wanted | {"old": "had both"}


def test_an_image_that_fails_is_left_and_stops_no_other(
    netloc: str, context: MockContext, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    registry, name = Registry(), f"{netloc}/rotate/fails"
    sign.sign(registry, name, push_image(registry, name, "v1", "fails"), OLD)
    old, new = pair
    with pytest.raises(Exit) as caught:
        rotate(context, [f"{name}:missing", f"{name}:v1"], [], old=old, key=new, json=True)
    assert caught.value.code == 1
    assert states(capsys) == {"missing": "left", "v1": "signed again"}


def test_the_same_key_twice_is_a_mistake(context: MockContext, pair: tuple[str, str]) -> None:
    old, _ = pair
    with pytest.raises(Exit, match="the same"):
        rotate(context, ["r.example/app:v1"], [], old=old, key=old.replace(".pub", ".key"))
    with pytest.raises(Exit, match="nothing to rotate"):
        rotate(context, [], [], old=old)


def test_tags_are_read_page_by_page(fake: FakeRegistry) -> None:
    from countersign.oci.errors import Malformed
    from countersign.oci.tags import tags

    pages = {
        "": (["v1", "sha256-" + "1" * 64 + ".sig", "sha256-" + "1" * 64], "v1"),
        "v1": (["v2"], ""),
        "bad": (["../x"], ""),
    }
    first = [""]

    def listed(request: Request) -> Reply | None:
        if not request.path.endswith("/tags/list"):
            return None
        found, last = pages[request.query.get("last", first)[0]]
        link = {"Link": f'<{request.path}?last={last}>; rel="next"'} if last else {}
        return Reply(200, json.dumps({"name": "demo/app", "tags": found}).encode(), link)

    fake.faults.append(listed)
    assert tags(Registry(), fake.name()) == ["v1", "v2"]
    first[0] = "bad"
    with pytest.raises(Malformed, match="no list of tags"):
        tags(Registry(), fake.name())
