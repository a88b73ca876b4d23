"""bench.fleet: the model is held against runs that it was not fitted on, and requests are the registry's own log's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.bench import fleet, fleet_registry, fleet_store
from lab.bench.fleet import Run


def runs(seconds: list[float]) -> list[Run]:
    cold = [Run("cold", gates, 2, 2 * gates, {}, 0, 24 * gates, took) for gates, took in enumerate(seconds, start=1)]
    whole = [Run("cold", 10, 2, 20, {"TIMEOUT": 1}, 0, 240, 1.0), Run("warm", 10, 2, 40, {}, 0, 0, 0.1)]
    return [*cold, *whole]


def test_what_follows_the_model_is_predicted_without_error() -> None:
    model = fleet.fit(runs([0.5 + 0.02 * gates for gates in range(1, 11)])[:10])
    assert [model.base, model.each, model.error] == pytest.approx([0.5, 0.01, 0])
    assert model.fleet == pytest.approx(0.5 + 0.01 * 2000)


def test_the_error_is_that_of_the_runs_between() -> None:
    seconds = [0.5 + 0.02 * gates for gates in range(1, 11)]
    seconds[1::2] = [2 * each for each in seconds[1::2]]
    assert fleet.fit(runs(seconds)[:10]).error == pytest.approx(0.5)


def test_the_document_counts_requests_and_says_what_is_modelled() -> None:
    document = fleet.document(runs([0.1 * n for n in range(1, 11)]), [1 << 20, 3 << 20], 0.25, {})
    assert document["requestsANodeAndImage"] == 12
    assert document["fleet"] == {"gates": 1000, "requests": 24000}
    assert "would ask 24000 times" in fleet.said(document)[0]
    assert "fitted on half the runs" in fleet.said(document)[1]
    warm = fleet.rows(document)[-1]
    assert dict(zip(fleet.COLUMNS, warm, strict=True))["registry requests"] == "0"
    assert [row[4] for row in fleet.rows(document)][-2:] == ["1 TIMEOUT", "0"]


def test_requests_are_read_from_the_registrys_log(tmp_path: Path) -> None:
    registry = fleet_registry.LoggedRegistry(tmp_path, Path("registry"), 1)
    lines = [
        '127.0.0.1 - - [x] "GET /v2/a HTTP/1.1" 200 2',
        '127.0.0.1 - - [x] "PUT /v2/a HTTP/1.1" 201 2',
        "level=warn",
    ]
    registry.log.write_text("\n".join([*lines, '127.0.0.1 - - [x] "HEAD /v2/b HTTP/1.1" 404 0']))
    assert registry.requests() == ["GET /v2/a HTTP/1.1", "HEAD /v2/b HTTP/1.1"]


def test_a_storage_has_a_container_of_each_image(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(name: str, content: object) -> str:
        (blobs / (name * 64)).write_text(json.dumps(content))
        return f"sha256:{name * 64}"

    config = blob("a", {"rootfs": {"diff_ids": ["sha256:1", "sha256:2"]}})
    manifest = blob("b", {"config": {"digest": config}})
    platforms = [{"digest": "sha256:none", "platform": {"architecture": "arm64"}}]
    index = blob("c", {"manifests": [*platforms, {"digest": manifest, "platform": {"architecture": "amd64"}}]})
    (layout / "index.json").write_text(json.dumps({"manifests": [{"digest": index}]}))
    found = fleet_store.write(tmp_path / "root", tmp_path / "run", {"a.test/a:1": layout})
    (container,) = json.loads((tmp_path / "root/overlay-containers/volatile-containers.json").read_text())
    (image,) = json.loads((tmp_path / "root/overlay-images/images.json").read_text())
    layers = json.loads((tmp_path / "root/overlay-layers/layers.json").read_text())
    assert found == {"a.test/a:1": container["id"]}
    assert (image["id"], image["names"]) == ("a" * 64, ["a.test/a:1"])
    assert [each["diff-digest"] for each in layers] == ["sha256:1", "sha256:2"]
    assert image["layer"] == layers[-1]["id"]
    assert Path(fleet_store.bundle(tmp_path / "run", container["id"]), "config.json").is_file()
