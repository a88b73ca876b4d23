"""Looking for entries in a transparency log, of both kinds: there, not there, another one, and no answer."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from countersign.console.config import ROOT, Settings, settings_from
from countersign.oci.proxy import NONE
from release import log, verifying
from release.log import Entry
from release.trust import ByIdentity
from release.verify import Checker
from tests.fake_registry import FakeRegistry, Reply, Request, serving


class Log:
    """A log of both kinds behind one address: entries by hash, and tiles."""

    def __init__(self, server: FakeRegistry, size: int) -> None:
        self.url = f"http://{server.netloc}"
        self.bodies = [f'{{"entry":{number}}}'.encode() for number in range(size)]
        self.broken = 0
        self.shown = b""
        self.asked: list[str] = []
        server.faults.append(self.answer)

    def answer(self, request: Request) -> Reply:
        self.asked.append(request.path)
        if self.broken:
            return Reply(self.broken, b"broken")
        if request.path == "/api/v2/checkpoint":
            return Reply(200, f"log.example\n{len(self.bodies)}\nAAAA\n\n".encode())
        kind, _, name = request.path.removeprefix("/api/").partition("/entries/")
        if kind == "v1/log":
            by_hash = {hashlib.sha256(b"\0" + body).hexdigest(): body for body in self.bodies}
            found = by_hash.get(name)
            body = base64.b64encode(self.shown or found or b"").decode()
            return Reply(200, json.dumps({f"tree{name}": {"body": body}}).encode()) if found else Reply(404, b"{}")
        number, _, width = name.replace("x", "").replace("/", "", name.count("x")).partition(".p/")
        start = 256 * int(number)
        there = self.bodies[start : start + 256]
        if (int(width) if width else 256) != len(there):
            return Reply(404, b"")
        return Reply(200, b"".join(len(each).to_bytes(2, "big") + each for each in there))

    def entry(self, index: int, *, tiled: bool) -> Entry:
        return Entry(f"{index}", self.url, index, tiled, self.bodies[index])


@pytest.fixture
def settings() -> Settings:
    return replace(settings_from(Context(Config(project_location=ROOT))), offline=False)


@pytest.fixture
def there() -> Iterator[Log]:
    with serving() as server:
        yield Log(server, 600)


@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("index", [0, 255, 256, 511, 599])
def test_an_entry_that_is_there_is_found(there: Log, index: int, tiled: bool) -> None:
    assert log.look([there.entry(index, tiled=tiled)], NONE) == log.Looked((str(index),))


@pytest.mark.parametrize(("tiled", "says"), [(True, "its entry 300 is another one"), (False, "it has no entry")])
def test_an_entry_that_is_another_is_missing(there: Log, tiled: bool, says: str) -> None:
    good = there.entry(300, tiled=tiled)
    assert log.look([good], NONE).there == ("300",)
    found = log.look([replace(good, body=b"forged")], NONE)
    assert (found.there, found.why_not) == ((), "")
    assert f"{there.url}: {says}" in found.missing["300"]


def test_a_log_that_shows_another_body_under_an_entrys_hash_is_not_believed(there: Log) -> None:
    good = there.entry(300, tiled=False)
    assert log.look([good], NONE).there == ("300",)
    there.shown = b"forged"
    found = log.look([good], NONE)
    assert found.there == ()
    assert "its entry" in found.missing["300"]
    assert "is another one" in found.missing["300"]


def test_an_entry_that_the_log_does_not_show_is_a_finding_of_the_release(
    there: Log, settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "trusted_root.json"
    root.write_text(json.dumps({"tlogs": [{"baseUrl": there.url, "logId": {"keyId": "a"}}]}))
    trusted = ByIdentity("https://issuer.example", "https://github.com/acme/app", root)

    def found(body: bytes) -> dict[str, str]:
        entry = {"logIndex": "3", "logId": {"keyId": "a"}, "kindVersion": {"version": "0.0.1"}}
        material = {"tlogEntries": [{**entry, "canonicalizedBody": base64.b64encode(body).decode()}]}
        held = {"SHA256SUMS.sigstore.json": json.dumps({"verificationMaterial": material}).encode()}
        findings, why = verifying.logged(settings, Checker(Path("unused"), trusted, held))
        assert why == ""
        return {each.what: each.reason for each in findings}

    assert found(there.bodies[3]) == {"SHA256SUMS.sigstore.json: log": ""}
    assert found(b"forged") == {"SHA256SUMS.sigstore.json: log": "not-in-log"}


def test_an_index_beyond_the_log_is_missing(there: Log) -> None:
    found = log.look([replace(there.entry(599, tiled=True), index=600)], NONE)
    assert "it has 600 entries, and no index 600" in found.missing["599"]


@pytest.mark.parametrize("tiled", [True, False])
def test_a_log_that_fails_is_asked_once_and_told(there: Log, tiled: bool) -> None:
    there.broken = 503
    found = log.look([there.entry(index, tiled=tiled) for index in range(100)], NONE)
    assert (found.there, found.missing) == ((), {})
    assert found.why_not == f"{there.url}: answers 503"
    assert len(there.asked) <= 4


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://127.0.0.1:1", "cannot be reached"), ("http://log.example", "is no https:// URL")],
)
def test_a_log_that_is_not_there_is_told(there: Log, url: str, says: str) -> None:
    found = log.look([replace(there.entry(0, tiled=False), log=url)], NONE)
    assert says in found.why_not


def test_only_logs_that_the_trusted_root_lists_are_asked(there: Log) -> None:
    def bundle(key: str) -> bytes:
        entry = {
            "logId": {"keyId": key}, "logIndex": "7", "kindVersion": {"version": "0.0.1"},
            "canonicalizedBody": base64.b64encode(b"body").decode(),
        }  # fmt: skip
        return json.dumps({"verificationMaterial": {"tlogEntries": [entry]}}).encode()

    root = json.dumps({"tlogs": [{"baseUrl": f"{there.url}/", "logId": {"keyId": "a2V5"}}]}).encode()
    found = list(log.entries([("one", bundle("a2V5")), ("other", bundle("b3RoZXI="))], root))
    assert found == [Entry("one", there.url, 7, False, b"body")]


@pytest.mark.parametrize(
    ("tile", "path"), [(0, "000"), (7, "007"), (999, "999"), (1000, "x001/000"), (1234067, "x001/x234/067")]
)
def test_a_tile_is_named_as_the_specification_has_it(tile: int, path: str) -> None:
    assert log._path(tile) == path
