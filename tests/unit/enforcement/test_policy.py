from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.enforcement import layout, policy
from countersign.enforcement.gate_client import GateDown, request
from countersign.enforcement.policy import Policy
from countersign.nodes.host import HOST, HostNode
from lab.demo.keys import KeyPair

PINNED = "registry.example/pause@sha256:" + "0" * 64


@pytest.fixture
def where(tmp_path: Path) -> layout.Layout:
    made = layout.host(tmp_path)
    for folder in (made.etc, made.run):
        Path(folder).mkdir(parents=True)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    KeyPair(tmp_path / "keys").apply()
    path = tmp_path / "policy.yaml"
    path.write_text(
        "apiVersion: countersign/v1\ndefault: reject\nroots: {k: {publicKey: {files: [keys/cosign.pub]}}}\n"
        "scopes: {registry.example/app: {anyOf: [k]}}\n"
    )
    return path


def gate(path: str, *answers: bytes) -> threading.Thread:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    while connection.recv(4096):
                        pass
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def ping(digest: str) -> bytes:
    return b"allow OK\nthe gate serves\n" + json.dumps({"policy": digest}).encode() + b"\n"


def test_a_key_pair_is_made_once_with_a_password_beside_it(tmp_path):
    from countersign.keys.pair import load_private, load_public

    pair = KeyPair(tmp_path / "keys")
    assert pair.needed()
    pair.apply()
    assert not pair.needed()
    password = (tmp_path / "keys" / "cosign.password").read_bytes().strip()
    private = load_private(tmp_path / "keys" / "cosign.key", password)
    assert private.public == load_public(tmp_path / "keys" / "cosign.pub")
    assert (tmp_path / "keys" / "cosign.password").stat().st_mode & 0o777 == 0o600


def test_the_policy_on_the_node_has_the_pins_of_set_up(where, source):
    step = Policy(HOST, where, source, (PINNED,))
    assert step.needed()
    step.apply()
    assert not step.needed()
    assert json.loads(Path(where.policy).read_text())["pinned"] == [PINNED]
    assert Policy(HOST, where, source, ()).needed()


def test_a_policy_whose_keys_are_yet_to_come_is_needed(where, tmp_path):
    assert Policy(HOST, where, tmp_path / "none.yaml", (), keys_to_come=True).needed()


def test_pins_are_read_back(tmp_path):
    assert policy.read_pins(tmp_path / "pins.json") == []
    (tmp_path / "pins.json").write_text(json.dumps([PINNED]))
    assert policy.read_pins(tmp_path / "pins.json") == [PINNED]


def test_what_is_in_force_is_what_the_gate_says(where):
    thread = gate(where.gate_socket, ping("sha256:another"))
    assert policy.in_force(HostNode(), where) == "sha256:another"
    thread.join(5)


def test_a_serial_alone_makes_no_other_policy(where, source):
    step = Policy(HOST, where, source, (PINNED,), serial=7)
    step.file().apply()
    assert not Policy(HOST, where, source, (PINNED,)).needed()
    assert Policy(HOST, where, source, ()).needed()
    assert policy.there(HostNode(), where).serial == 7


@pytest.mark.parametrize(
    ("mark", "lies", "next_one"),
    [
        (None, 0, 0),
        (None, 4, 5),
        ('{"version": "countersign.policy-mark/v1", "serial": 9, "hash": "sha256:aa"}', 4, 10),
        ('{"version": "countersign.policy-mark/v1", "serial": 9, "hash": "sha256:aa"}', None, 10),
        ("{", 4, 0),
    ],
)
def test_the_next_serial_is_above_all_that_a_node_knows(where, source, mark, lies, next_one):
    step = Policy(HOST, where, source, ())
    if lies is not None:
        replace(step, serial=lies).file().apply()
    if mark is not None:
        Path(where.policy_mark).parent.mkdir(parents=True, exist_ok=True)
        Path(where.policy_mark).write_text(mark)
    assert step.numbered().serial == next_one


@pytest.mark.parametrize("answer", [b"", b"allow OK\n", b"allow OK\nsentence\nno json\n"])
def test_an_answer_that_cannot_be_read_is_none(where, answer):
    thread = gate(where.gate_socket, answer)
    with pytest.raises(GateDown, match="the gate does not answer"):
        request(HostNode(), where, "ping", timeout=5)
    thread.join(5)
