"""Publishing: all of it, or nothing that anybody could see, whichever call fails."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import CountersignError, InfrastructureError, MissingError, UsageError, VerdictError
from countersign.oci.proxy import NONE
from countersign.oci.registry import Registry
from release import publish
from release.github import GitHub, of
from release.made import Image, Release
from tests import fake_github, fake_registry
from tests.fake_github import TOKEN, FakeGitHub
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.images import push_image

SOURCE = "https://github.com/acme/app"
SARIF = "app-1.2.3.sarif.json"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry.serving() as fake:
        yield fake


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with fake_github.serving() as fake:
        yield fake


@pytest.fixture
def release(registry: FakeRegistry) -> Release:
    """A release whose image lies there, under its digest; 1.2 is another image's yet."""
    client, name = Registry(), registry.name()
    digest = push_image(client, name, marker="new").digest
    push_image(client, name, "1.2", "old")
    image = Image("app", digest, {"linux/amd64": digest}, ("1.2.3", "1.2", "sha-abc"), ("app",), name)
    return Release("app", "1.2.3", SOURCE, "c" * 40, 1_790_000_000, (), (image,), scanned=True)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "app", tmp_path / SARIF]
    for path in found:
        path.write_text(path.name)
    return found


def github(hub: FakeGitHub) -> GitHub:
    return of(SOURCE, TOKEN, hub.url, NONE)


def run(release: Release, files: list[Path], hub: FakeGitHub | None) -> list[str]:
    told: list[str] = []
    target = github(hub) if hub else None
    publish.publish(Registry(), release, files, "notes", target, lambda: None, told.append)
    return told


def named(registry: FakeRegistry) -> dict[str, str]:
    """Return the tags that point at something."""
    name = registry.name().partition("/")[2]
    client, tags_there = Registry(), [tag for at, tag in registry.manifests if at == name and ":" not in tag]
    return {tag: client.manifest(registry.name(), tag)[1].digest for tag in tags_there}


def test_everything_is_published(release: Release, files: list[Path], hub: FakeGitHub, registry: FakeRegistry) -> None:
    run(release, files, hub)
    assert named(registry) == dict.fromkeys(("1.2.3", "1.2", "sha-abc"), release.images[0].digest)
    (made,) = hub.releases.values()
    assert (made["draft"], made["prerelease"], made["target_commitish"]) == (False, False, "c" * 40)
    assert made["assets"] == {"app": b"app", SARIF: SARIF.encode()}
    assert hub.tags == {"v1.2.3"}


def test_a_pre_release_is_called_one(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    images = (replace(release.images[0], tags=("1.2.3-rc.1",)),)
    run(replace(release, release="1.2.3-rc.1", images=images), files, hub)
    assert hub.releases[1]["prerelease"] is True


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(7))
def test_a_call_that_fails_leaves_nothing(
    release: Release, files: list[Path], hub: FakeGitHub, registry: FakeRegistry, call: int, after: bool
) -> None:
    before = named(registry)
    hub.fail_at, hub.after = call, after
    with pytest.raises(InfrastructureError, match="502 broken"):
        run(release, files, hub)
    assert len(hub.calls) > call
    assert (hub.releases, hub.tags, named(registry)) == ({}, set(), before)
    hub.fail_at = -1
    run(release, files, hub)
    assert hub.tags == {"v1.2.3"}


def test_those_are_all_calls(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    run(release, files, hub)
    assert len(hub.calls) == 7


def test_code_scanning_is_given_the_result(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    assert f"code scanning: {SARIF}" in run(release, files, hub)
    assert hub.scans is not None
    (given,) = hub.scans
    assert (given["commit_sha"], given["ref"]) == ("c" * 40, "refs/tags/v1.2.3")
    assert gzip.decompress(base64.b64decode(given["sarif"])) == SARIF.encode()


def test_a_repository_without_code_scanning_is_told_of_it(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    hub.scans = None
    assert any("security-events: write" in line for line in run(release, files, hub))
    assert hub.tags == {"v1.2.3"}


def test_a_release_that_was_not_scanned_gives_none(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    run(replace(release, scanned=False), files, hub)
    assert hub.scans == []


def test_a_tag_of_git_that_was_there_stays(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    hub.tags, hub.fail_at, hub.after = {"v1.2.3"}, 6, True
    with pytest.raises(InfrastructureError):
        run(release, files, hub)
    assert (hub.releases, hub.tags) == ({}, {"v1.2.3"})


def test_what_cannot_be_taken_back_is_named(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    hub.fail_at, hub.stays_broken = 3, True
    with pytest.raises(InfrastructureError, match=r"acme/app v1\.2\.3: could not be taken back: the release"):
        run(release, files, hub)


def _faults(registry: FakeRegistry, after: bool, tag: str) -> None:
    """Let the first PUT of a tag fail, before or after it is done."""
    seen: list[Request] = []

    def fault(request: Request) -> Reply | None:
        if request.method != "PUT" or not request.path.endswith(f"/{tag}") or seen:
            return None
        seen.append(request)
        if after:
            registry.answer(request)
        return Reply(503, b"broken")

    registry.faults.append(fault)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("tag", ["1.2", "sha-abc", "1.2.3"])
def test_a_registry_that_fails_at_a_tag_leaves_all_as_they_were(
    release: Release, files: list[Path], hub: FakeGitHub, registry: FakeRegistry, tag: str, after: bool
) -> None:
    before = named(registry)
    _faults(registry, after, tag)
    with pytest.raises(CountersignError, match="503"):
        run(release, files, hub)
    assert (hub.releases, hub.tags, named(registry)) == ({}, set(), before)


def test_a_release_that_is_refused_with_its_tags_is_taken_back(
    release: Release, files: list[Path], hub: FakeGitHub, registry: FakeRegistry
) -> None:
    before = named(registry)

    def refuse() -> None:
        raise VerdictError("moved-tag")

    with pytest.raises(VerdictError, match="moved-tag"):
        publish.publish(Registry(), release, files, "notes", github(hub), refuse, lambda _: None)
    assert (hub.releases, hub.tags, named(registry)) == ({}, set(), before)


def test_a_version_that_is_published_is_not_published_again(
    release: Release, files: list[Path], hub: FakeGitHub, registry: FakeRegistry
) -> None:
    run(release, files, hub)
    there = dict(hub.releases)
    with pytest.raises(UsageError, match="is there already, as a release or draft"):
        run(release, files, hub)
    assert (hub.releases, hub.tags) == (there, {"v1.2.3"})


def test_a_versions_tag_that_is_another_images_is_never_moved(release: Release, registry: FakeRegistry) -> None:
    other = push_image(Registry(), registry.name(), "1.2.3", "other").digest
    with pytest.raises(UsageError, match="a version is released once"):
        publish.move_tags(Registry(), release)
    assert named(registry)["1.2.3"] == other


def test_tags_alone_need_no_github(release: Release, files: list[Path], registry: FakeRegistry) -> None:
    moved = [f"{registry.name()}:{tag}" for tag in ("1.2", "sha-abc", "1.2.3")]
    assert run(release, files, None) == [f"tags: {', '.join(moved)}"]


def test_the_token_goes_nowhere_else(release: Release, files: list[Path], hub: FakeGitHub) -> None:
    hub.uploads = "http://evil.example"
    with pytest.raises(InfrastructureError, match="expected its own domain"):
        run(release, files, hub)
    assert hub.releases == {}
    assert TOKEN not in repr(github(hub))


@pytest.mark.parametrize(
    ("source", "token", "api", "error", "says"),
    [
        ("https://git.example/acme/app", TOKEN, "https://api.github.com", UsageError, "give --no-github"),
        (SOURCE, "", "https://api.github.com", MissingError, "there is no GITHUB_TOKEN"),
        (SOURCE, TOKEN, "http://api.github.com", UsageError, "expected an https:// URL"),
    ],
)
def test_what_it_needs_is_told(source: str, token: str, api: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        of(source, token, api, NONE)
