"""Gatekeeper before an API server, by our provider: what the gate refuses is refused, and so is what nobody answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from countersign.oci import reference
from signing.sign import targets
from tests.gatekeeper.cluster import WITHIN
from tests.gatekeeper.conftest import IGNORED, Place, pod
from tests.gatekeeper.rubbish import answering


@pytest.fixture(scope="module")
def gatekeeper(place: Place) -> Iterator[Place]:
    """Gatekeeper runs, and decides."""
    with place.gatekeeper():
        assert "GATE_DOWN" in place.cluster.settled(pod(place, "signed"), allow=False, says="GATE_DOWN").message
        yield place


@pytest.fixture
def served(gatekeeper: Place) -> Iterator[Place]:
    """The provider runs too."""
    with gatekeeper.provider():
        assert gatekeeper.cluster.settled(pod(gatekeeper, "signed"), allow=True).allow
        yield gatekeeper


def test_an_unsigned_image_is_refused_by_its_code(served: Place) -> None:
    answer = served.cluster.review(pod(served, "unsigned"))
    assert (answer.allow, answer.code) == (False, "UNSIGNED")
    assert served.cluster.review(pod(served, "signed")).allow


@pytest.mark.parametrize(
    "where",
    [
        lambda image: {"initContainers": [{"name": "first", "image": image}]},
        lambda image: {"volumes": [{"name": "data", "image": {"reference": image}}]},
    ],
    ids=["init containers", "image volumes"],
)
def test_every_image_of_a_pod_is_asked_about(served: Place, where: Any) -> None:
    answer = served.cluster.review(pod(served, "signed", **where(served.name("app:unsigned"))))
    assert (answer.allow, answer.code) == (False, "UNSIGNED")
    assert served.cluster.review(pod(served, "signed", **where(served.name("app:signed")))).allow


def test_the_label_that_gatekeeper_heeds_takes_no_namespace_out(served: Place) -> None:
    namespace = IGNORED["metadata"]["name"]  # type: ignore[index]
    answer = served.cluster.review(pod(served, "unsigned", namespace))
    assert (answer.allow, answer.code) == (False, "UNSIGNED")
    assert served.cluster.review(pod(served, "signed", namespace)).allow


def test_a_running_pod_is_asked_about_when_its_images_change(gatekeeper: Place) -> None:
    cluster = gatekeeper.cluster
    with gatekeeper.provider():
        assert cluster.settled(pod(gatekeeper, "signed"), allow=True).allow
        cluster.apply([pod(gatekeeper, "signed")])
        try:
            for changed, subresource in (
                ({"spec": {"containers": [{"name": "one", "image": "IMAGE"}]}}, ()),
                (
                    {"spec": {"ephemeralContainers": [{"name": "x", "image": "IMAGE"}]}},
                    ("--subresource=ephemeralcontainers",),
                ),
            ):
                for tag, code in (("unsigned", "UNSIGNED"), ("signed", "")):
                    patch = json.dumps(changed).replace("IMAGE", gatekeeper.name(f"app:{tag}"))
                    said = cluster.tried("patch", "pod", "trial", "--type=strategic", "-p", patch, *subresource)
                    assert code in said if code else not said, said
        except BaseException:
            cluster.run("delete", "pod", "trial", "--force", "--grace-period=0")
            raise
    # Its labels move while nobody answers; another image does not come in.
    assert cluster.tried("label", "pod", "trial", "seen=yes") == ""
    patch = json.dumps({"spec": {"containers": [{"name": "one", "image": gatekeeper.name("app:unsigned")}]}})
    assert "GATE_DOWN" in cluster.tried("patch", "pod", "trial", "-p", patch)
    cluster.run("delete", "pod", "trial", "--force", "--grace-period=0")


def test_what_is_revoked_is_refused_at_once(served: Place) -> None:
    path = served.folder / "policy.json"
    kept = path.read_bytes()
    policy = json.loads(kept)
    (digest,) = {part.digest for part in targets(served.client, reference.parse(served.name("app:signed")))}
    policy["revoked"]["digests"] = [digest]
    with _replaced(path, json.dumps(policy).encode()):
        start = time.monotonic()
        assert served.cluster.settled(pod(served, "signed"), allow=False).code == "REVOKED"
        assert time.monotonic() - start < WITHIN
    assert served.cluster.settled(pod(served, "signed"), allow=True).allow


RIGHT = {"items": [{"key": "KEY", "value": {"allow": True, "code": "OK"}}]}
RUBBISH: Mapping[str, Any] = {
    "nothing": {},
    "no items": {"items": []},
    "no value": {"items": [{"key": "KEY"}]},
    "a value that does not allow": {"items": [{"key": "KEY", "value": {"allow": False}}]},
    "a value that says so in words": {"items": [{"key": "KEY", "value": {"allow": "true"}}]},
    "a value that is a word": {"items": [{"key": "KEY", "value": "OK"}]},
    "another image": {"items": [{"key": "KEY-", "value": {"allow": True}}]},
    "an error beside the value": {"items": [*RIGHT["items"], {"key": "KEY", "error": "UNSIGNED"}]},
    "an error of the whole": {**RIGHT, "systemError": "down"},
    "two errors": {"items": [{"key": "KEY", "error": "one"}, {"key": "KEY", "error": "two"}]},
}


@pytest.mark.parametrize("what", RUBBISH)
def test_an_answer_that_is_none_allows_nothing(gatekeeper: Place, what: str) -> None:
    with answering(gatekeeper, RIGHT):
        assert gatekeeper.cluster.settled(pod(gatekeeper, "signed"), allow=True).allow
    with answering(gatekeeper, RUBBISH[what]) as asked:
        answer = gatekeeper.cluster.review(pod(gatekeeper, "signed"))
    assert (answer.allow, asked()) == (False, 1), answer


@contextmanager
def _replaced(path: Path, content: bytes) -> Iterator[None]:
    kept = path.read_bytes()
    _put(path, content)
    try:
        yield
    finally:
        _put(path, kept)


def _put(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)
