"""What the old key signed is signed by the new one, found by the gate's engine, and what is left is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from signing import sign
from signing.amended import today
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


def test_the_policy_goes_from_the_old_key_to_the_new_one(
    netloc: str, pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, name = Registry(), f"{netloc}/rotate/policy"
    old, new = pair
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"apiVersion: countersign/v1\nroots: {{team: {{publicKey: {{files: [old.pub]}}}}}}  # ours\n"
        f"scopes:\n  {name}: {{anyOf: [team]}}\n"
    )
    context = MockContext(config=Config(overrides={"policy": str(policy), "state": str(tmp_path / "state")}))
    sign.sign(registry, name, push_image(registry, name, "v1", "policy"), OLD)
    first = policy.read_text()

    def run(*, plan: bool = False, repository: str = name) -> tuple[list[str], Any]:
        rotate(context, [], [repository], old=old, key=new, plan=plan, json=True)
        document = json.loads(capsys.readouterr().out)
        return [Path(key).name for key in _files(policy)], document

    assert run(plan=True)[0] == ["old.pub"]
    assert policy.read_text() == first
    assert run()[0] == ["old.pub", "new.pub"]
    one_image, document = run(repository=f"@{_listed(tmp_path, f'{name}:v1')}")
    assert one_image == ["old.pub", "new.pub"]  # not all that the scope trusts it for was looked at
    assert "not looked at as a whole" in document["kept"][0]
    second = policy.read_text()
    assert run(plan=True)[0] == ["old.pub", "new.pub"]
    assert policy.read_text() == second
    sign.sign(registry, name, push_image(registry, name, "v2", "since then"), OLD)
    assert run()[1]["left"] == 0
    assert _files(policy) == ["new.pub"]
    dated = f"{{since: {{new.pub: {today()}}}, files: [new.pub]}}"
    assert policy.read_text() == first.replace("{files: [old.pub]}", dated)
    final, document = run()
    assert (final, document["amended"]) == (["new.pub"], False)


def test_a_key_stays_in_the_policy_while_something_is_left(
    netloc: str, pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, (old, new) = f"{netloc}/rotate/stays", pair
    policy = tmp_path / "policy.yaml"
    text = "apiVersion: countersign/v1\nroots: {team: {publicKey: {files: [old.pub, new.pub]}}}\n"
    policy.write_text(text + f"scopes: {{'{name}': {{anyOf: [team]}}}}\n")
    context = MockContext(config=Config(overrides={"policy": str(policy), "state": str(tmp_path / "state")}))
    sign.sign(Registry(), name, push_image(Registry(), name, "v1", "stays"), OLD)
    with pytest.raises(Exit, match="1 of 2"):
        rotate(context, [f"{name}:missing"], [name], old=old, key=new, json=True)
    assert _files(policy) == ["old.pub", "new.pub"]
    rotate(context, [], [name], old=old, key=new, json=True)  # the same without what is missing
    assert _files(policy) == ["new.pub"]


def _files(policy: Path) -> list[str]:
    found: list[str] = yaml.safe_load(policy.read_text())["roots"]["team"]["publicKey"]["files"]
    return found


def _listed(folder: Path, name: str) -> Path:
    (folder / "list").write_text(f"{name}\n")
    return folder / "list"


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
