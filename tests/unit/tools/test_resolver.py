import base64
import dataclasses
import hashlib
import json
import multiprocessing
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.console.errors import MissingError, UsageError
from countersign.tools import recipes
from countersign.tools.build import BuildFailed
from countersign.tools.recipes import Recipe, lookup
from countersign.tools.resolver import find, install, tool

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Bench


def test_a_good_one_on_path_is_taken_and_nothing_is_built(bench: "Bench") -> None:
    path = bench.program("thing", "#!/bin/sh\necho thing v1.4.2\n")
    assert tool("thing", bench.settings) == path
    assert bench.calls() == []
    found = find("thing", bench.settings)
    assert found
    assert (found.version, found.source) == ("1.4.2", "PATH")


def test_what_only_a_distribution_has_is_never_built(bench: "Bench") -> None:
    with pytest.raises(MissingError, match=r"^there is no brought; apt-get install brought-bin$"):
        install(["ours", "brought"], bench.settings)
    path = bench.program("brought", "#!/bin/sh\necho 1.0.9\n")
    says = f"^{path}: is of a version that does not serve; expected 1.1.0 to below 2; apt-get install brought-bin$"
    with pytest.raises(MissingError, match=says):
        tool("brought", bench.settings)
    assert bench.calls() == []
    bench.program("brought", "#!/bin/sh\necho 1.1.0\n")
    assert tool("brought", bench.settings) == path


@pytest.mark.parametrize("version", ["1.3.9", "2.0.0"])
def test_a_bad_version_on_path_is_passed_over(version: str, bench: "Bench") -> None:
    bench.program("thing", f"#!/bin/sh\necho thing v{version}\n")
    path = tool("thing", bench.settings)
    assert path.parent.parent == bench.settings.cache / "thing"
    assert path.parent.name.startswith("1.5.0-")


def test_one_build_makes_all_tools_of_a_recipe(bench: "Bench", capsys: pytest.CaptureFixture[str]) -> None:
    places = install(["thingctl", "thing"], bench.settings)
    assert list(places) == ["thingctl", "thing"]
    assert all(path.is_file() for path in places.values())
    (call,) = bench.calls()
    assert "example.com/thing/cmd/thing@v1.5.0 example.com/thing/cmd/thingctl@v1.5.0 |" in call
    assert "-trimpath -buildvcs=false -ldflags=-s -w" in call
    assert call.endswith("CGO_ENABLED=0 CC=")
    assert "✓ build thing 1.5.0" in capsys.readouterr().err


def test_a_second_time_nothing_is_run(bench: "Bench") -> None:
    first = tool("thing", bench.settings)
    (bench.folder / "bin" / "go").unlink()
    assert tool("thing", bench.settings) == first
    assert len(bench.calls()) == 1
    found = find("thing", bench.settings)
    assert found
    assert (found.path, found.version, found.source) == (first, "1.5.0", "cache")


def test_looking_builds_nothing(bench: "Bench") -> None:
    assert find("thing", bench.settings) is None
    assert bench.calls() == []
    assert not bench.settings.cache.exists()


def test_a_failed_build_leaves_nothing_and_shows_the_end_of_its_log(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BuildFailed) as failure:
        tool("thing", bench.settings)
    assert failure.value.exit_code == 4
    log = bench.settings.cache / "log" / "thing.log"
    assert str(failure.value) == f"{log}: go install failed with 2; repeating goes on from here"
    shown = capsys.readouterr().err
    assert "  | undefined: it all\n" in shown
    assert "compiling 18" in shown
    assert "compiling 2\n" not in shown
    assert "compiling 2\n" in log.read_text()
    assert bench.left() == []
    monkeypatch.delenv("BROKEN")
    assert tool("thing", bench.settings).is_file()


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("OSError: [Errno 28] No space left on device\nTraceback", "No space left on device"),
        ("write $WORK/b001/_pkg_.a: No space left on device", "No space left on device"),
        ("fork/exec compile: Permission denied\nmkdir x: Read-only file system", "Read-only file system"),
        ('Get "https://registry.example": dial tcp: lookup registry.example: no such host', "no such host"),
        ("verifying x: checksum mismatch", "checksum mismatch"),
    ],
)
def test_what_a_build_names_as_its_cause_is_in_the_line(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch, said: str, cause: str
) -> None:
    go = (bench.folder / "bin" / "go").read_text().replace("undefined: it all", said)
    bench.program("go", go)
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BuildFailed) as failure:
        tool("thing", bench.settings)
    assert f"go install failed with 2: {cause}; " in str(failure.value)
    assert str(failure.value).endswith("make room there") is (cause == "No space left on device")


def test_what_a_killed_build_left_is_removed(bench: "Bench") -> None:
    left = bench.settings.cache / "thing" / ".tmp-left"
    left.mkdir(parents=True)
    (left / "thing").write_text("half")
    path = tool("thing", bench.settings)
    assert bench.left() == [f"thing/{path.parent.name}"]


def test_runs_at_the_same_time_build_once(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "0.3")
    fork = multiprocessing.get_context("fork")
    runs = [fork.Process(target=tool, args=("thing", bench.settings)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert len(bench.calls()) == 1
    assert tool("thing", bench.settings).is_file()


def test_a_build_that_fails_does_not_cut_off_its_neighbour(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    bench.program("gcc", "#!/bin/sh\n")
    go = (bench.folder / "bin" / "go").read_text().replace('"${BROKEN:-}"', '"${CC:-}"')
    bench.program("go", go)
    with pytest.raises(BuildFailed, match=r"cthing\.log"):
        install(["thing", "cthing"], bench.settings)
    assert find("thing", bench.settings)
    assert find("cthing", bench.settings) is None


def test_our_source_is_built_with_its_tags_and_anew_when_it_changes(bench: "Bench") -> None:
    first = tool("ours", bench.settings)
    assert "-tags=one" in bench.calls()[0]
    (bench.folder / "ours" / "main.go").write_text("package main // other")
    assert tool("ours", bench.settings) != first
    assert len(bench.calls()) == 2


def test_a_change_of_our_source_while_it_is_built_gives_what_was_asked_for(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lookup("ours")[0].key()
    main = bench.folder / "ours" / "main.go"
    go = (bench.folder / "bin" / "go").read_text().replace("sleep", f'echo "// more" >>{main}; sleep')
    bench.program("go", go)
    path = tool("ours", bench.settings)
    assert path.is_file()
    assert path.parent.name == key


def test_an_image_is_a_layout_with_a_program_for_each_platform(bench: "Bench") -> None:
    layout = tool("demo", bench.settings)
    (top,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    index = json.loads((layout / "blobs" / "sha256" / top["digest"].removeprefix("sha256:")).read_bytes())
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    assert ["GOARCH=amd64" in bench.calls()[0], "GOARCH=arm64" in bench.calls()[1]] == [True, True]
    assert bench.left() == [f"demo/{layout.name}"]


def test_offline_forbids_go_the_network(bench: "Bench") -> None:
    tool("thing", dataclasses.replace(bench.settings, offline=True))
    assert "GOPROXY=off" in bench.calls()[0]


def test_a_build_that_fails_offline_says_so(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BuildFailed, match="the network may not be used"):
        tool("thing", dataclasses.replace(bench.settings, offline=True))


def test_online_leaves_go_the_users_proxy(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "https://proxy.example")
    tool("thing", bench.settings)
    assert "GOPROXY=https://proxy.example" in bench.calls()[0]


def test_offline_a_wheel_that_is_not_in_the_cache_is_missing(bench: "Bench") -> None:
    with pytest.raises(MissingError, match=r"wheel 1\.0 is not in the cache, and the network may not be used") as error:
        tool("wheel", dataclasses.replace(bench.settings, offline=True))
    assert error.value.do == "run `./inv tools.install --name wheel` without INVOKE_OFFLINE"
    assert bench.left() == []


def test_a_cache_that_cannot_be_written_is_missing(bench: "Bench") -> None:
    bench.settings.cache.write_text("a file")
    with pytest.raises(MissingError, match="set INVOKE_CACHE to a folder of yours"):
        tool("thing", bench.settings)


def test_an_unknown_tool_is_refused_before_anything_is_built(bench: "Bench") -> None:
    with pytest.raises(UsageError, match="no such tool"):
        install(["thing", "nothing"], bench.settings)
    assert bench.calls() == []


def make_wheel(folder: Path) -> str:
    """Write a wheel with one program in it; return its SHA-256."""
    folder.mkdir()
    path = folder / "countersign_test_wheel-1.0-py3-none-any.whl"
    info = "countersign_test_wheel-1.0.dist-info"
    content = {
        "inside/program": "here",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: countersign-test-wheel\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}\n"
        for name, text in content.items()
    )
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**content, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            wheel.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheel_hash(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(bench.folder / "wheels"))
    return make_wheel(bench.folder / "wheels")


def with_hash(value: str) -> dict[str, Recipe]:
    known = recipes.recipes()
    return {**known, "wheel": dataclasses.replace(known["wheel"], hashes=(value,))}


def test_a_wheel_is_unpacked_when_its_hash_is_the_pinned_one(
    bench: "Bench", wheel_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = with_hash(wheel_hash)
    monkeypatch.setattr("countersign.tools.recipes.recipes", lambda: known)
    assert tool("wheel", bench.settings).read_text() == "here"


def test_a_wheel_with_another_hash_is_refused(
    bench: "Bench", wheel_hash: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = with_hash("0" * 64)
    monkeypatch.setattr("countersign.tools.recipes.recipes", lambda: known)
    with pytest.raises(BuildFailed):
        tool("wheel", bench.settings)
    assert "DO NOT MATCH THE HASHES" in (bench.settings.cache / "log" / "wheel.log").read_text()
    assert wheel_hash in capsys.readouterr().err
    assert bench.left() == []
