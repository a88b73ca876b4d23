"""trust.update: by TUF from a repository of our own, or from a file; what is older or not signed changes nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit

from countersign.trust import commands, listing, tuf, update
from signing.stack import certificates, documents
from signing.stack.place import LISTENERS, Stack
from tests.unit.trust.repository import Repository, served

YEAR = dt.timedelta(days=365)
NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
STACK = Stack(Path("/nowhere"), {name: 1000 + at for at, name in enumerate(LISTENERS)}, made=False)


def root(start: dt.datetime) -> dict[str, Any]:
    """Return a trusted root whose parts all begin then."""
    logs = {name: certificates.new_key() for name in ("ct", "rekor", "rekor-v1")}
    return documents.trusted_root(STACK, start, certificates.authority(start), certificates.timestamps(start), logs)


FORMER = root(NOW - YEAR)


def grown() -> dict[str, Any]:
    """Return FORMER with a newer log, after which the older one ended."""
    new: dict[str, Any] = json.loads(json.dumps(FORMER))
    new["tlogs"].append(root(NOW - YEAR / 2)["tlogs"][0])
    new["tlogs"][0]["publicKey"]["validFor"]["end"] = "2026-12-01T00:00:00Z"
    return new


def as_bytes(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Return the file of a policy's one trusted root."""
    path = tmp_path / "trust" / "public.json"
    path.parent.mkdir()
    path.write_bytes(as_bytes(FORMER))
    keyless = {"issuer": "https://i", "subject": "me@acme.example", "trustedRoot": "trust/public.json"}
    policy = {"apiVersion": "countersign/v1", "default": "reject", "roots": {"r": {"keyless": keyless}}, "scopes": {}}
    (tmp_path / "policy.yaml").write_bytes(as_bytes(policy))
    return path


@pytest.fixture
def run(tmp_path: Path, there: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Return what runs the task and gives its document, or raises Exit."""
    state = str(tmp_path / "state")
    context = Context(Config(overrides={"policy": str(tmp_path / "policy.yaml"), "state": state}))

    def call(**options: Any) -> dict[str, Any]:
        capsys.readouterr()
        commands.update(context, json=True, **options)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def given(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "given.json"
    path.write_bytes(content)
    return str(path)


def test_a_newer_one_takes_the_place_and_the_former_is_kept(run: Any, there: Path, tmp_path: Path) -> None:
    new = as_bytes(grown())
    plan = run(file=given(tmp_path, new), plan=True)
    assert there.read_bytes() == as_bytes(FORMER)
    said = run(file=given(tmp_path, new))
    assert there.read_bytes() == new
    assert Path(said["former"]).read_bytes() == as_bytes(FORMER)
    assert [each["kind"] for each in said["added"]] == ["log"]
    (changed,) = said["changed"]
    assert (changed["before"]["end"], changed["now"]["end"]) == (None, "2026-12-01T00:00:00+00:00")
    assert (plan["written"], said["written"], said["removed"]) == (False, True, [])
    assert {key: plan[key] for key in ("added", "changed")} == {key: said[key] for key in ("added", "changed")}
    assert run(file=given(tmp_path, new))["written"] is False
    assert sorted(path.name for path in there.parent.iterdir()) == ["public.json", "public.json.former"]


def without(member: str) -> bytes:
    return as_bytes(FORMER | {member: []})


def reopened() -> bytes:
    """Return a root that differs from `grown` in one thing: a log that had ended goes on."""
    new = grown()
    del new["tlogs"][0]["publicKey"]["validFor"]["end"]
    return as_bytes(new)


def broken() -> bytes:
    new = grown()
    new["tlogs"][0]["publicKey"]["rawBytes"] = "AAAA"
    return as_bytes(new)


@pytest.mark.parametrize(
    ("first", "content", "code", "says"),
    [
        (grown, lambda: as_bytes(FORMER), 1, "is older than the one that is there: its newest entry begins"),
        (grown, reopened, 1, "had ended 2026-12-01, and goes on in it"),
        (None, lambda: as_bytes(root(NOW + YEAR)), 1, "no certificate authority in it is valid now"),
        (None, lambda: without("certificateAuthorities"), 2, "it lists no certificate authority"),
        (None, broken, 2, "cannot be read"),
        (None, lambda: b"{", 2, "cannot be read"),
        (None, lambda: b"[" * 5000, 2, "cannot be read"),
        (None, lambda: b'{"mediaType": "x"}', 2, "got type 'x'"),
        (None, lambda: b" " * (listing.LIMIT + 1), 2, "more than"),
    ],
)
def test_another_changes_nothing(
    run: Any, there: Path, tmp_path: Path, first: Any, content: Any, code: int, says: str
) -> None:
    if first:
        there.write_bytes(as_bytes(first()))
    before = there.read_bytes()
    with pytest.raises(Exit) as end:
        run(file=given(tmp_path, content()))
    assert end.value.code == code
    assert says in str(end.value.message)
    assert there.read_bytes() == before
    assert [path.name for path in there.parent.iterdir()] == ["public.json"]


@pytest.fixture
def repository() -> Iterator[tuple[Repository, str]]:
    """Return a TUF repository of our own with FORMER, and its URL."""
    found = Repository()
    found.publish(as_bytes(FORMER), 1)
    with served(found) as url:
        yield found, url


def anchored(tmp_path: Path, repository: Repository) -> str:
    path = tmp_path / "root.json"
    path.write_bytes(repository.anchor)
    return str(path)


def test_it_comes_by_tuf(run: Any, there: Path, tmp_path: Path, repository: tuple[Repository, str]) -> None:
    tree, url = repository
    anchor = anchored(tmp_path, tree)
    assert run(url=url, anchor=anchor)["written"] is False
    new = as_bytes(grown())
    tree.publish(new, 2)
    said = run(url=f"{url}/", anchor=anchor)
    assert (said["written"], said["source"]) == (True, url)
    assert there.read_bytes() == new


def swapped(tree: Repository) -> None:
    """Put other content where a target lies."""
    name = next(name for name in tree.files if name.startswith("targets/"))
    tree.files[name] = as_bytes(root(NOW - YEAR))


def longer(tree: Repository) -> None:
    """Have a target be longer than what is signed."""
    name = next(name for name in tree.files if name.startswith("targets/"))
    tree.files[name] += b" "


def rolled_back(tree: Repository) -> None:
    tree.publish(as_bytes(FORMER), 1)


def by_another_key(tree: Repository) -> None:
    other = Repository(anchor=tree.anchor)
    other.publish(as_bytes(grown()), 3)
    tree.files |= other.files


def expired(tree: Repository) -> None:
    tree.publish(as_bytes(grown()), 3, -dt.timedelta(days=1))


def good(tree: Repository) -> None:
    tree.publish(as_bytes(grown()), 3)


@pytest.mark.parametrize("change", [swapped, longer, rolled_back, by_another_key, expired, good])
def test_what_is_not_signed_or_not_fresh_is_refused(
    run: Any, there: Path, tmp_path: Path, repository: tuple[Repository, str], change: Callable[[Repository], None]
) -> None:
    tree, url = repository
    anchor = anchored(tmp_path, tree)
    tree.publish(as_bytes(FORMER), 2)
    if change not in (swapped, longer):
        run(url=url, anchor=anchor)
    before = there.read_bytes()
    change(tree)
    if change is good:
        assert run(url=url, anchor=anchor)["written"] is True
        return
    with pytest.raises(Exit) as end:
        run(url=url, anchor=anchor)
    assert end.value.code == 1
    assert "refused: " in str(end.value.message)
    assert there.read_bytes() == before


def test_a_repository_that_lacks_a_file_is_told(run: Any, tmp_path: Path, repository: tuple[Repository, str]) -> None:
    tree, url = repository
    del tree.files["timestamp.json"]
    with pytest.raises(Exit) as end:
        run(url=url, anchor=anchored(tmp_path, tree))
    assert end.value.code == 4
    assert "cannot be fetched" in str(end.value.message)


def test_a_repository_that_is_down_is_told(run: Any, tmp_path: Path, repository: tuple[Repository, str]) -> None:
    with served(repository[0]) as url:
        pass
    with pytest.raises(Exit) as end:
        run(url=url, anchor=anchored(tmp_path, repository[0]))
    assert end.value.code == 4
    assert "refused" in str(end.value.message)
    assert "give --file" in str(end.value.message)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"file": "x", "url": "https://y"}, "got both"),
        ({"url": "https://unknown.example"}, "no trust anchor is known"),
        ({"file": "/nowhere.json"}, "no such file"),
        ({"url": "https://unknown.example", "anchor": "/nowhere.json"}, "root.json of TUF"),
    ],
)
def test_what_cannot_be_meant_is_told(run: Any, options: dict[str, str], says: str) -> None:
    with pytest.raises(Exit) as end:
        run(**options)
    assert end.value.code == 2
    assert says in str(end.value.message)


def test_several_trusted_roots_are_told_apart(run: Any, there: Path, tmp_path: Path) -> None:
    policy = json.loads((tmp_path / "policy.yaml").read_text())
    policy["roots"]["r"]["keyless"]["trustedRoot"] = ["trust/public.json", "trust/other.json"]
    (tmp_path / "policy.yaml").write_bytes(as_bytes(policy))
    with pytest.raises(Exit, match="--out"):
        run(file=str(there))
    assert run(file=str(there), out=str(tmp_path / "new" / "root.json"))["written"] is True


def test_the_public_sigstores_anchor_is_built_in() -> None:
    assert json.loads(tuf.anchor(tuf.PUBLIC, None))["signed"]["_type"] == "root"


def test_what_ends_soon_is_told() -> None:
    entries = listing.read(as_bytes(grown()), "it")
    end = dt.datetime(2026, 12, 1, tzinfo=dt.timezone.utc)
    assert update.soon(entries, end - dt.timedelta(days=29)) == ["log http://127.0.0.1:1003 ends 2026-12-01"]
    assert update.soon(entries, end - dt.timedelta(days=31)) == []
