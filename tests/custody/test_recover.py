"""A stolen key, rehearsed: what the thief signed is refused with REVOKED, what is known to be ours is signed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.policy import gate
from countersign.policy.load import load
from signing import sign, verify
from signing.recover_tasks import recover
from tests.images import push_image, push_index

STOLEN, NEW, OTHER = keys.generate(), keys.generate(), keys.generate()
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def policy(netloc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy whose root has the stolen key and one more."""
    monkeypatch.setenv("COSIGN_PASSWORD", "pw")
    keyfiles.write(tmp_path / "keys/new", NEW, b"pw")
    for name, key in (("stolen", STOLEN), ("other", OTHER)):
        (tmp_path / f"keys/{name}.pub").write_text(key.public.pem)
    text = "apiVersion: countersign/v1\nroots:\n  team:  # ours\n    publicKey:\n      files:\n"
    text += "        - keys/stolen.pub  # since May\n        - keys/other.pub\n"
    text += f"scopes: {{'{netloc}/recover': {{anyOf: [team]}}}}\n"
    (tmp_path / "policy.yaml").write_text(text)
    return tmp_path / "policy.yaml"


@pytest.fixture
def run(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The task, with its document."""
    overrides = {"policy": str(policy), "keys": str(tmp_path / "keys"), "state": str(tmp_path / "state")}
    context = MockContext(config=Config(overrides=overrides))

    def task(*images: str, plan: bool = False) -> dict[str, Any]:
        folder = tmp_path / "keys"
        where = {"old": str(folder / "stolen.pub"), "key": str(folder / "new.key"), "since": "2026-11-01"}
        recover(context, list(images), plan=plan, json=True, **where)
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return task


def signed(name: str, tag: str, *by: keys.PrivateKey) -> Descriptor:
    """Push an index with a platform, signed by keys."""
    registry = Registry()
    index = push_index(registry, name, tag, {"linux/amd64": push_image(registry, name, "", tag)})
    for key in by:
        for target in sign.targets(registry, parse(f"{name}@{index.digest}")):
            sign.sign(registry, name, target, key)
    return index


def states(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Digest → state and code."""
    return {one["image"].partition("@")[2]: (one["state"], one["code"]) for one in document["images"]}


def test_the_thiefs_image_is_refused_and_ours_is_signed_again(
    netloc: str, policy: Path, run: Run, tmp_path: Path, settings: Any
) -> None:
    name = f"{netloc}/recover/app"
    ours, thiefs = signed(name, "ours", STOLEN), signed(name, "thiefs", STOLEN)
    both, others = signed(name, "both", STOLEN, OTHER), signed(name, "others", OTHER)
    (tmp_path / "ours.txt").write_text(f"# of the builds\n{name}@{ours.digest}\n")
    names = (f"@{tmp_path / 'ours.txt'}", f"{netloc}/")
    program, access = verify.program(settings), verify.Access()

    def verdict(digest: str) -> str:
        rendered = tmp_path / "rendered.json"
        rendered.write_bytes(gate.render(load(policy)))
        image = f"{name}@{digest}"
        return str(verify.verify(program, image, verify.by_policy(rendered), access)["code"])

    assert [verdict(one.digest) for one in (ours, thiefs, both, others)] == ["OK"] * 4
    before = policy.read_text()
    planned = states(run(*names, plan=True))
    assert planned[ours.digest] == ("to be signed", "")
    assert policy.read_text() == before
    assert sorted(path.name for path in (tmp_path / "keys").glob("*.pub")) == ["new.pub", "other.pub", "stolen.pub"]

    done = run(*names)
    assert done["amended"] is True
    wanted = {
        ours.digest: ("signed again", "OK"),
        thiefs.digest: ("refused", "REVOKED"),
        both.digest: ("allowed", "OK"),
    }
    assert {digest: states(done).get(digest) for digest in wanted} == wanted
    assert others.digest not in states(done)
    assert [verdict(one.digest) for one in (ours, thiefs, both, others)] == ["OK", "REVOKED", "OK", "OK"]
    for line in ("  team:  # ours\n", "        - keys/stolen.pub  # since May\n", "        - keys/new.pub\n"):
        assert line in policy.read_text()

    again = run(*names)  # as after a run that was cut off: what is done is not done again
    assert again["amended"] is False
    assert states(again) == states(done)


def test_what_is_only_found_is_never_signed_again(netloc: str, run: Run) -> None:
    name = f"{netloc}/recover/found"
    thiefs = signed(name, "v1", STOLEN)
    for where in (name, f"{name}:v1"):
        assert states(run(where))[thiefs.digest] == ("refused", "REVOKED")
    assert states(run(f"{name}@{thiefs.digest}"))[thiefs.digest] == ("signed again", "OK")


def test_an_image_without_a_tag_is_found_by_what_hangs_on_it(netloc: str, run: Run) -> None:
    registry, name = Registry(), f"{netloc}/recover/untagged"
    hidden = push_image(registry, name, "", "hidden")
    sign.sign(registry, name, hidden, STOLEN)
    assert states(run(name))[hidden.digest] == ("refused", "REVOKED")


def test_an_image_that_fails_is_left_and_stops_no_other(
    netloc: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{netloc}/recover/fails"
    ours = signed(name, "v1", STOLEN)
    with pytest.raises(Exit) as caught:
        run(f"{name}@sha256:{'0' * 64}", f"{name}@{ours.digest}")
    assert caught.value.code == 1
    document = json.loads(capsys.readouterr().out)
    assert states(document)[ours.digest] == ("signed again", "OK")
    assert len(document["problems"]) == 1
