"""What rests on a stolen key is found wherever it lies, and only what the user has named by digest is signed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from countersign.console.errors import UsageError
from countersign.keys import pair as keys
from countersign.oci.errors import Malformed, NotFound
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.oci.tags import repositories, tags_and_digests
from signing import among, sign
from signing import recover as recovering
from signing.signer import ByKey
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.images import push_image

OLD, NEW = keys.generate(), keys.generate()
HEX = "1" * 64


def listing(fake: FakeRegistry, catalog: Mapping[str, list[str]]) -> None:
    """Have a registry list repositories and tags, one a page."""

    def listed(request: Request) -> Reply | None:
        path = request.path.removeprefix("/v2/")
        if path != "_catalog" and not path.endswith("/tags/list"):
            return None
        member = "repositories" if path == "_catalog" else "tags"
        every = list(catalog) if path == "_catalog" else catalog[path.removesuffix("/tags/list")]
        at = int(request.query.get("last", ["0"])[0])
        link = {"Link": f'<{request.path}?last={at + 1}>; rel="next"'} if at + 1 < len(every) else {}
        return Reply(200, json.dumps({member: every[at : at + 1]}).encode(), link)

    fake.faults.append(listed)


def test_a_catalog_is_read_page_by_page(fake: FakeRegistry, tmp_path: Path) -> None:
    listing(fake, {"team/app": ["v1", f"sha256-{HEX}.sig"], "base": ["v2"]})
    where = fake.netloc
    assert repositories(Registry(), where) == [f"{where}/team/app", f"{where}/base"]
    assert tags_and_digests(Registry(), f"{where}/team/app") == (["v1"], [f"sha256:{HEX}"])
    known = f"{where}/team/app@sha256:{HEX}"
    (tmp_path / "list").write_text(f"# ours\n{where}/  # all\n\n{known}\n")
    found = among.images(Registry(), [f"@{tmp_path / 'list'}"])
    assert [(str(one.ref), one.named) for one in found] == [
        (known, True),
        (f"{where}/team/app:v1", False),
        (f"{where}/base:v2", False),
    ]
    assert among.whole([f"@{tmp_path / 'list'}", f"{where}/base"]) == (
        frozenset({f"{where}/base"}),
        frozenset({where}),
    )


@pytest.mark.parametrize("bad", ["../x", "A", "", "a//", "x" * 300 + "/", 7])
def test_a_catalog_that_lies_is_refused(fake: FakeRegistry, bad: object) -> None:
    page: list[object] = ["good"]
    fake.faults.append(
        lambda request: (
            Reply(200, json.dumps({"repositories": page}).encode()) if request.path == "/v2/_catalog" else None
        )
    )
    assert repositories(Registry(), fake.netloc) == [f"{fake.netloc}/good"]
    page.append(bad)
    with pytest.raises(Malformed, match="no list of repositories"):
        repositories(Registry(), fake.netloc)


def test_only_a_digest_says_which_image_is_meant(fake: FakeRegistry) -> None:
    """Whoever can push moves a tag."""
    digest = f"sha256:{HEX}"
    where = fake.name()
    found = among.images(Registry(), [f"{where}:v1", f"{where}:v1@{digest}", f"{where}@{digest}"])
    assert [(str(one.ref), one.named) for one in found] == [(f"{where}@{digest}", True), (f"{where}:v1", False)]


def test_a_registry_without_a_catalog_says_what_to_do(fake: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"has no catalog.*name its repositories"):
        among.images(Registry(), [f"{fake.netloc}/"])
    for bad in ("a/b/", "/", f"@{tmp_path / 'missing'}"):
        with pytest.raises(UsageError):
            among.images(Registry(), [bad])


def engine(
    signers: Mapping[str, keys.PrivateKey], registry: Registry, name: str, digest: str, at: str = ""
) -> recovering.Engine:
    """An engine that looks whether the two keys' bundles are there."""

    def there(which: str) -> bool:
        return sign.there(registry, name, digest, ByKey(signers[which]), "bundle")

    def inspect(_: str) -> Mapping[str, Any]:
        opinions = [[{"root": root, "ok": True}] for root in ("old", "new") if there(root)]
        times = [{"source": "timestamp", "at": at}] if at else []
        seen = [{"attestation": False, "times": times, "roots": roots} for roots in opinions]
        return {"digests": [{"signatures": seen}]}

    def verify(_: str) -> Mapping[str, Any]:
        return {"allow": there("new"), "code": "OK" if there("new") else "REVOKED"}

    return recovering.Engine(inspect, verify)


def test_only_what_the_user_named_is_signed_again(fake: FakeRegistry) -> None:
    registry, name = Registry(), fake.name()
    image = push_image(registry, name, "v1", "one")
    ref = parse(f"{name}@{image.digest}")
    asked = engine({"old": OLD, "new": NEW}, registry, name, image.digest)

    def became(*, ours: bool, plan: bool = False) -> tuple[str, str]:
        found = recovering.recover(registry, ref, ByKey(NEW), asked, None, ours=ours, plan=plan)
        return found.state, found.code

    assert became(ours=True) == ("not the old key's", "")
    sign.sign(registry, name, image, OLD)
    assert became(ours=False) == ("refused", "REVOKED")
    assert became(ours=True, plan=True) == ("to be signed", "")
    assert became(ours=False) == ("refused", "REVOKED")  # neither has signed it
    assert became(ours=True) == ("signed again", "OK")
    assert became(ours=True) == became(ours=False) == ("signed again", "OK")  # a second run changes nothing


@pytest.mark.parametrize(
    ("at", "since", "says"),
    [
        ("2026-11-02T00:00:00Z", "2026-11-01", "since"),
        ("2026-11-01T00:00:00Z", "2026-11-01", "since"),
        ("2026-10-31T23:59:59Z", "2026-11-01", "before"),
        ("", "2026-11-01", "no time"),
    ],
)
def test_a_time_that_a_signature_says_sorts_and_proves_nothing(
    fake: FakeRegistry, at: str, since: str, says: str
) -> None:
    registry, name = Registry(), fake.name()
    image = push_image(registry, name, "v1", "two")
    sign.sign(registry, name, image, OLD)
    asked = engine({"old": OLD, "new": NEW}, registry, name, image.digest, at)
    when = recovering.date(since)
    ref = parse(f"{name}@{image.digest}")
    found = recovering.recover(registry, ref, ByKey(NEW), asked, when, ours=False, plan=False)
    assert (found.state, found.code, found.says) == ("refused", "REVOKED", says)


def test_dates() -> None:
    assert recovering.date("") is None
    assert recovering.date("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC)
    assert recovering.date("2026-11-01T01:00:00+01:00") == datetime(2026, 11, 1, tzinfo=UTC)
    for bad in ("yesterday", "11/01/2026", "9999-01-01"):
        with pytest.raises(UsageError, match="--since"):
            recovering.date(bad)
