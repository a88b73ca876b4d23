"""cosign verifies what we sign and we verify what cosign signs: both formats, both registries, both kinds of key."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.keys import pair as keys
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import Reference, parse
from signing import sign, stored
from signing.stored import FORMATS, Format
from signing.verify import Verdict, by_keys, program, verify
from tests.images import push_image, push_index
from tests.interop.conftest import ATTACHMENT, OFFLINE, PASSWORD, Cosign, Lab

pytestmark = pytest.mark.interop
Pair = tuple[Path, Path]

HOW: dict[Format, tuple[str, ...]] = {"attachment": ATTACHMENT, "bundle": OFFLINE}
VERIFY: dict[Format, str] = {"attachment": "--new-bundle-format=false", "bundle": "--new-bundle-format=true"}
each_format = pytest.mark.parametrize("chosen", FORMATS)


@pytest.fixture(params=["our_key", "cosigns_key"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A key pair made by us, and one made by cosign."""
    found: Pair = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def image(lab: Lab) -> tuple[Reference, Descriptor]:
    """A fresh image in a repository of its own."""
    ref = parse(f"{lab.netloc}/interop/{uuid.uuid4().hex}:v1")
    return ref, push_image(lab.client, ref.name, "v1", ref.name)


def load(pair: Pair) -> keys.PrivateKey:
    return keys.load_private(pair[0], PASSWORD.encode())


class Gate:
    """The gate's engine, as ``signing.verify`` runs it."""

    def __init__(self, settings: Settings) -> None:
        self.program = program(settings)

    def says(self, lab: Lab, ref: Reference, pair: Pair) -> Verdict:
        return verify(self.program, str(ref), by_keys([pair[1]]), lab.access)

    def holds(self, lab: Lab, ref: Reference, pair: Pair) -> list[str]:
        found = self.says(lab, ref, pair)
        assert found["code"] == "OK", found["message"]
        return [name for name in str(found["format"]).split(",") if name]


@pytest.fixture(scope="session")
def gate(settings: Settings) -> Gate:
    return Gate(settings)


@each_format
def test_cosign_verifies_what_we_sign(
    cosign: Cosign, lab: Lab, image: tuple[Reference, Descriptor], pair: Pair, chosen: Format
) -> None:
    ref, target = image
    sign.sign(lab.client, ref.name, target, load(pair), [chosen])
    done = cosign.verify(lab, str(ref.at(target.digest)), pair[1], VERIFY[chosen])
    assert done.returncode == 0, done.stderr
    (claim,) = json.loads(done.stdout)
    assert claim["critical"]["image"]["docker-manifest-digest"] == target.digest


@each_format
def test_we_verify_what_cosign_signs(
    gate: Gate, cosign: Cosign, lab: Lab, image: tuple[Reference, Descriptor], pair: Pair, chosen: Format
) -> None:
    ref, target = image
    cosign.sign(lab, str(ref.at(target.digest)), pair[0], HOW[chosen])
    assert gate.holds(lab, ref, pair) == [chosen]


@each_format
def test_both_refuse_the_other_key(
    gate: Gate,
    cosign: Cosign,
    lab: Lab,
    image: tuple[Reference, Descriptor],
    our_key: Pair,
    cosigns_key: Pair,
    chosen: Format,
) -> None:
    ref, target = image
    sign.sign(lab.client, ref.name, target, load(our_key), [chosen])
    done = cosign.verify(lab, str(ref.at(target.digest)), cosigns_key[1], VERIFY[chosen])
    assert done.returncode != 0
    assert gate.says(lab, ref, cosigns_key)["code"] == "BAD_SIGNATURE"


@each_format
@pytest.mark.parametrize("first", ["ours", "cosign"])
def test_the_second_signer_keeps_the_firsts_signature(
    gate: Gate,
    cosign: Cosign,
    lab: Lab,
    image: tuple[Reference, Descriptor],
    our_key: Pair,
    cosigns_key: Pair,
    chosen: Format,
    first: str,
) -> None:
    ref, target = image
    by_digest = str(ref.at(target.digest))
    if first == "ours":
        sign.sign(lab.client, ref.name, target, load(our_key), [chosen])
    cosign.sign(lab, by_digest, cosigns_key[0], HOW[chosen])
    if first == "cosign":
        sign.sign(lab.client, ref.name, target, load(our_key), [chosen])
    assert len(stored.listed(lab.client, ref.name, target.digest, chosen)) == 2
    for key in (our_key, cosigns_key):
        assert gate.holds(lab, ref, key) == [chosen]
        done = cosign.verify(lab, by_digest, key[1], VERIFY[chosen])
        assert done.returncode == 0, done.stderr


@each_format
def test_a_signature_that_cosign_made_with_our_key_is_not_added_again(
    cosign: Cosign, lab: Lab, image: tuple[Reference, Descriptor], our_key: Pair, chosen: Format
) -> None:
    ref, target = image
    cosign.sign(lab, str(ref.at(target.digest)), our_key[0], HOW[chosen])
    result = sign.sign(lab.client, ref.name, target, load(our_key), [chosen])
    assert (result.added, result.present) == ([], [chosen])


@each_format
def test_cosign_verifies_every_platform_that_we_sign(cosign: Cosign, lab: Lab, our_key: Pair, chosen: Format) -> None:
    ref = parse(f"{lab.netloc}/interop/{uuid.uuid4().hex}:v1")
    platforms = {f"linux/{name}": push_image(lab.client, ref.name, marker=name) for name in ("amd64", "arm64")}
    index = push_index(lab.client, ref.name, "v1", platforms)
    for target in sign.targets(lab.client, ref):
        sign.sign(lab.client, ref.name, target, load(our_key), [chosen])
    for digest in (index.digest, *(one.digest for one in platforms.values())):
        done = cosign.verify(lab, str(ref.at(digest)), our_key[1], VERIFY[chosen])
        assert done.returncode == 0, done.stderr


def test_an_attestation_of_cosign_is_no_image_signature(
    gate: Gate, cosign: Cosign, lab: Lab, image: tuple[Reference, Descriptor], our_key: Pair, tmp_path: Path
) -> None:
    ref, target = image
    (tmp_path / "sbom.json").write_text('{"spdxVersion": "SPDX-2.3", "SPDXID": "x", "name": "x"}')
    options = ("--predicate", str(tmp_path / "sbom.json"), "--type", "spdxjson", "--key", str(our_key[0]))
    done = cosign.run("attest", "--yes", *options, *OFFLINE, *lab.flags, str(ref.at(target.digest)))
    assert done.returncode == 0, done.stderr
    assert gate.says(lab, ref, our_key)["code"] == "UNSIGNED"
    assert sign.sign(lab.client, ref.name, target, load(our_key), ["bundle"]).added == ["bundle"]
    assert gate.holds(lab, ref, our_key) == ["bundle"]
