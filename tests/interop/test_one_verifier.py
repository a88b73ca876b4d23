"""What two verifiers disagreed about has one verdict, and signing leads out of each refusal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.keys import pair as keys
from countersign.keys.pair import PrivateKey
from countersign.oci import descriptor
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import parse
from signing import attachment, bundle, sign, stored
from signing.verify import Verdict, by_keys, program, verify
from tests.images import push_image
from tests.interop.conftest import Lab

pytestmark = pytest.mark.interop
KEY = keys.generate()
Hang = Callable[[Lab, str, Descriptor], None]


def attached(change: Callable[[bytes, str, str], bytes], key: PrivateKey = KEY) -> Hang:
    def hang(lab: Lab, name: str, target: Descriptor) -> None:
        payload = change(attachment.payload(name, target.digest), name, target.digest)
        stored.add_attachment(lab.client, name, target.digest, attachment.sign(key, payload))

    return hang


def bundled(change: Callable[[bytes], bytes], key: PrivateKey = KEY) -> Hang:
    def hang(lab: Lab, name: str, target: Descriptor) -> None:
        stored.add_bundle(lab.client, name, target, change(bundle.sign(key, bundle.statement(target.digest))))

    return hang


def named(suffix: str) -> Callable[[bytes, str, str], bytes]:
    def change(payload: bytes, name: str, digest: str) -> bytes:
        return payload.replace(f'"{name}"'.encode(), f'"{name}{suffix.format(digest=digest)}"'.encode())

    return change


def without_optional(payload: bytes, *_: str) -> bytes:
    document = json.loads(payload)
    del document["optional"]
    return descriptor.encode(document)


def further(content: bytes, *_: str) -> bytes:
    return descriptor.encode(json.loads(content) | {"further": {"x": 1}})


def with_keyid(content: bytes) -> bytes:
    document = json.loads(content)
    document["dsseEnvelope"]["signatures"][0]["keyid"] = "whatever"
    return descriptor.encode(document)


@pytest.mark.parametrize(
    ("hang", "code"),
    [
        (attached(named(":v1")), "OK"),
        (attached(named("@{digest}")), "OK"),
        (attached(named("x")), "OTHER_IMAGE"),
        (attached(without_optional), "MALFORMED"),
        (attached(further), "MALFORMED"),
        (bundled(with_keyid), "OK"),
        (bundled(further), "OK"),
        (bundled(with_keyid, keys.generate()), "BAD_SIGNATURE"),
        (bundled(further, keys.generate()), "BAD_SIGNATURE"),
    ],
)
def test_one_verdict_and_a_way_out(lab: Lab, settings: Settings, tmp_path: Path, hang: Hang, code: str) -> None:
    name = f"{lab.netloc}/one/{uuid.uuid4().hex}"
    target = push_image(lab.client, name, "v1", name)
    public = tmp_path / "k.pub"
    public.write_text(KEY.public.pem)

    def says() -> Verdict:
        return verify(program(settings), str(parse(f"{name}:v1")), by_keys([public]), lab.access)

    hang(lab, name, target)
    assert says()["code"] == code
    assert sign.sign(lab.client, name, target, KEY).added == ["attachment", "bundle"]
    assert says()["code"] == "OK"
    assert sign.sign(lab.client, name, target, KEY).added == []
