from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.enforcement import layout, policy, record
from countersign.enforcement.policy import Policy
from countersign.keys import pair as keys
from countersign.keys.pair import load_private
from countersign.nodes.host import HOST
from countersign.nodes.node import Result
from countersign.nodes.steps import File
from lab.demo.keys import KeyPair
from rollout import apply as applying
from rollout.diff import compare
from rollout.places import Target
from signing import revocation_list

WHERE = layout.SYSTEM
SCOPES = "registry.example/app: {anyOf: [k]}"
PIN = "registry.example/pause@sha256:" + "0" * 64


class FakeNode:
    """A node in memory, with a gate that takes what has a higher serial than any before."""

    def __init__(self, name: str, refuses: str = "") -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.in_force = ""
        self.refuses = refuses
        self.asked: list[Sequence[str]] = []
        self.signatures: list[bytes] = []

    def run(self, argv: Sequence[str], *, input: bytes = b"", check: bool = True, **_: Any) -> Result:  # noqa: A002
        if argv[0] == "cat":
            return self._ended(argv, 0, b"\n".join(self.files[path] for path in argv[2:] if path in self.files))
        if argv[0] == "rm":
            del self.files[argv[-1]]
            return self._ended(argv, 0)
        assert argv[:3] == [WHERE.gate, "install-policy", "-"]
        self.asked.append(argv)
        if "--signature" in argv:
            self.signatures.append(self.files[argv[-1]])
        serial = json.loads(input).get("serial", 0)
        highest = json.loads(self.files.get(WHERE.policy_mark, b"{}")).get("serial", 0)
        if self.refuses or serial < highest:
            why = self.refuses or f"serial {serial}, and serial {highest} was in force on this node"
            return self._ended(argv, 1, b"", f"error: install-policy: POLICY_INVALID: {why}\n".encode())
        digest = "sha256:" + hashlib.sha256(input).hexdigest()
        if "--plan" not in argv:
            self.files[WHERE.policy] = input
            mark = {"version": policy.MARK_VERSION, "serial": serial, "hash": digest}
            self.files[WHERE.policy_mark] = json.dumps(mark).encode()
            self.in_force = digest
        answer = {"changed": True, "inForce": "--plan" not in argv, "hash": digest, "serial": serial}
        return self._ended(argv, 0, json.dumps(answer).encode())

    def _ended(self, argv: Sequence[str], code: int, out: bytes = b"", err: bytes = b"") -> Result:
        return Result(tuple(argv), code, out, err, 0.0)

    def put(self, content: bytes, path: str, mode: int = 0o644, owner: str = "") -> bool:
        self.files[path] = content
        return True


@pytest.fixture(autouse=True)
def gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "request", lambda node, *_, **__: {"policy": node.in_force})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    KeyPair(tmp_path / "keys").apply()
    return write(tmp_path / "policy.yaml")


def write(path: Path, scopes: str = SCOPES, more: str = "") -> Path:
    path.write_text(
        "apiVersion: countersign/v1\ndefault: reject\nroots: {k: {publicKey: {files: [keys/cosign.pub]}}}\n"
        f"scopes: {{{scopes}}}\n{more}\n"
    )
    return path


def target(node: FakeNode, source: Path) -> Target:
    return Target(node, Policy(node, WHERE, source, (PIN,)), source.parent / "laid.json")  # type: ignore[arg-type]


def serials(nodes: Sequence[FakeNode]) -> list[int]:
    return [json.loads(each.files[WHERE.policy]).get("serial", 0) for each in nodes]


def test_every_node_gets_the_policy_with_one_serial_above_all_they_know(source):
    nodes = [FakeNode("a"), FakeNode("b")]
    nodes[1].files[WHERE.policy_mark] = json.dumps({"version": policy.MARK_VERSION, "serial": 6}).encode()
    done = applying.apply([target(each, source) for each in nodes], None, plan=False)
    assert [(each.node, each.changed, each.serial) for each in done] == [("a", True, 7), ("b", True, 7)]
    assert serials(nodes) == [7, 7]
    assert {each.hash for each in done} == {each.in_force for each in nodes}


def test_a_second_time_nothing_changes_and_the_serial_stays(source):
    nodes = [FakeNode("a"), FakeNode("b")]
    targets = [target(each, source) for each in nodes]
    first = applying.apply(targets, None, plan=False)
    again = applying.apply(targets, None, plan=False)
    assert [each.changed for each in again] == [False, False]
    assert [(each.serial, each.hash) for each in again] == [(each.serial, each.hash) for each in first]
    write(source, "registry.example/app: reject")
    assert [each.changed for each in applying.apply(targets, None, plan=False)] == [True, True]
    assert serials(nodes) == [2, 2]


def test_a_plan_asks_every_gate_and_changes_nothing(source):
    node = FakeNode("a")
    done = applying.apply([target(node, source)], None, plan=True)
    assert [(each.changed, each.serial) for each in done] == [(True, 1)]
    assert WHERE.policy not in node.files
    assert ["--plan" in each for each in node.asked] == [True]


def test_what_one_node_does_not_take_changes_none(source):
    good, bad = FakeNode("good"), FakeNode("bad", refuses="no signature by a key of policyKeys")
    with pytest.raises(InfrastructureError, match=r"bad: POLICY_INVALID: no signature .* \(no node was changed\)"):
        applying.apply([target(good, source), target(bad, source)], None, plan=False)
    assert WHERE.policy not in good.files
    bad.refuses = ""
    applying.apply([target(good, source), target(bad, source)], None, plan=False)
    assert serials([good, bad]) == [1, 1]


def test_a_file_that_is_not_in_force_is_put_there_again(source):
    node = FakeNode("a")
    applying.apply([target(node, source)], None, plan=False)
    node.in_force = "sha256:other"
    assert [each.changed for each in applying.apply([target(node, source)], None, plan=False)] == [True]
    assert serials([node]) == [2]


def test_a_key_signs_the_very_bytes_and_the_signature_does_not_stay(source):
    node = FakeNode("a")
    pair = source.parent / "keys" / "cosign"
    password = pair.with_suffix(".password").read_bytes().strip()
    key = load_private(pair.with_suffix(".key"), password)
    applying.apply([target(node, source)], key, plan=False)
    assert len(node.signatures) == 2, "checked, then installed"
    assert key.public.verifies(base64.b64decode(node.signatures[-1]), node.files[WHERE.policy])
    assert not [path for path in node.files if path.endswith(".sig")]


def test_what_set_up_remembers_follows(source):
    node = FakeNode("a")
    it = target(node, source)
    record.keep(it.laid, {"a": [it.policy.file()]})
    applying.apply([it], None, plan=False)
    laid: Mapping[str, record.Laid] = record.read(it.laid, "a") or {}
    assert laid[WHERE.policy].sha256 == File(HOST, WHERE.policy, node.files[WHERE.policy]).digest()


def test_nothing_differs_after_it_was_applied(source):
    node = FakeNode("a")
    applying.apply([target(node, source)], None, plan=False)
    found = compare(target(node, source))
    assert found.same
    assert (found.serial, found.hash) == (1, node.in_force)


@pytest.mark.parametrize(
    ("scopes", "more", "line"),
    [
        ("registry.example/app: {anyOf: [k]}, a.example: accept", "", "+ scope a.example: accept"),
        ("", "", "- scope registry.example/app: anyOf k"),
        ("registry.example/app: reject", "", "~ scope registry.example/app: anyOf k → reject"),
        (
            SCOPES,
            f"pinned: [r.example/p@sha256:{'1' * 64}]",
            "+ pin r.example/p@sha256:1",
        ),
        (
            SCOPES,
            f"revoked: {{digests: ['sha256:{'2' * 64}']}}",
            "+ revoked digest sha256:2",
        ),
    ],
)
def test_a_difference_is_one_line(source, scopes, more, line):
    node = FakeNode("a")
    applying.apply([target(node, source)], None, plan=False)
    write(source, scopes, more)
    found = compare(target(node, source))
    assert [str(each)[: len(line)] for each in found.differences] == [line]
    assert not found.same


def test_another_key_of_a_root_is_a_difference(source):
    node = FakeNode("a")
    applying.apply([target(node, source)], None, plan=False)
    for path in (source.parent / "keys").iterdir():
        path.unlink()
    KeyPair(source.parent / "keys").apply()
    (only,) = compare(target(node, source)).differences
    assert (only.kind, only.part, only.name) == ("changed", "root", "k")
    assert only.found.startswith("sha256:")
    assert only.wanted.startswith("sha256:")
    assert only.found != only.wanted


def test_the_day_of_a_key_is_a_difference(source):
    node = FakeNode("a")
    applying.apply([target(node, source)], None, plan=False)
    source.write_text(source.read_text().replace("cosign.pub]", "cosign.pub], since: {keys/cosign.pub: 2026-11-01}"))
    (only,) = compare(target(node, source)).differences
    assert str(only).endswith(" (since 2026-11-01)")
    assert str(only).count(" (since ") == 1


def test_another_list_of_what_is_revoked_is_a_difference(source):
    signer, path = keys.generate(), source.parent / "acme.json"
    (source.parent / "security.pub").write_text(signer.public.pem)

    def listed(*digests):
        revocation_list.write(path, revocation_list.amended(path, {"digests": digests}), signer)

    listed("sha256:" + "1" * 64)
    write(source, SCOPES, "revoked: {lists: [{file: acme.json, keys: [security.pub]}]}")
    node = FakeNode("a")
    applying.apply([target(node, source)], None, plan=False)
    assert compare(target(node, source)).same
    listed("sha256:" + "2" * 64)
    (only,) = compare(target(node, source)).differences
    assert (only.kind, only.part, only.name) == ("changed", "revocation list", "acme")
    assert (only.found[:9], only.wanted[:9]) == ("serial 1 ", "serial 2 ")


def test_a_node_without_a_policy_differs_in_everything(source):
    found = compare(target(FakeNode("a"), source))
    assert {each.kind for each in found.differences} == {"added"}
    assert (found.hash, found.same) == ("", False)


def test_a_file_that_is_not_in_force_is_told(source):
    node = FakeNode("a")
    it = target(node, source)
    applying.apply([it], None, plan=False)
    node.in_force = "sha256:other"
    found = compare(it)
    assert (found.not_in_force, found.differences, found.same) == (True, (), False)


def test_the_runtimes_own_engine_is_changed_first_and_compared(source, tmp_path):
    node = FakeNode("a")
    own = File(HOST, str(tmp_path / "engine.json"), b"{}")

    class Engine:
        name = "CRI-O's own policy"

        def needed(self) -> bool:
            return own.path not in node.files

        def apply(self) -> None:
            assert WHERE.policy not in node.files
            node.files[own.path] = b"{}"

    it = replace(target(node, source), engine=Engine())
    assert "~ file CRI-O's own policy" in [str(each) for each in compare(it).differences]
    applying.apply([it], None, plan=False)
    assert own.path in node.files
    assert compare(it).same
