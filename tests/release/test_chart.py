"""The chart of a release: as Helm takes it, with the release's image by digest."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from countersign.console.errors import InfrastructureError, UsageError
from countersign.tools.resolver import tool
from release import charts, plain
from release.model import Chart
from tests.release.conftest import Lab, Make, git


def test_helm_pulls_it_and_it_names_the_image(make: Make, lab: Lab, tmp_path: Path) -> None:
    made = make()
    image, chart = made.release.images
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
    helm = str(tool("helm", lab.settings))
    where = f"oci://{chart.repository}@{chart.digest}"
    subprocess.run([helm, "pull", "--plain-http", where, "-d", str(tmp_path)], env=home, check=True)
    (pulled,) = tmp_path.glob("app-chart*.tgz")
    assert pulled.read_bytes() == (made.folder / "app-chart-1.2.3.tgz").read_bytes()
    rendered = subprocess.run([helm, "template", "x", str(pulled)], env=home, check=True, capture_output=True).stdout
    (container,) = yaml.safe_load(rendered)["spec"]["containers"]
    assert container["image"] == f"{image.repository}@{image.digest}"


def test_the_files_of_a_release_are_a_helm_repository(make: Make, lab: Lab, tmp_path: Path) -> None:
    made = make()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(made.folder))
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}/"
        argv = [str(tool("helm", lab.settings)), "pull", "app-chart", "--version", "1.2.3", "--repo", where]
        subprocess.run(argv, env=home, cwd=tmp_path, check=True)
        server.shutdown()
    assert (tmp_path / "app-chart-1.2.3.tgz").read_bytes() == (made.folder / "app-chart-1.2.3.tgz").read_bytes()
    assert made.verify() == {}
    (made.folder / "index.yaml").write_text("apiVersion: v1\nentries: {}\n")
    assert made.verify() == {"index.yaml": "tampered"}


def test_it_is_plain_yaml_too_with_its_namespace(make: Make, lab: Lab, tmp_path: Path) -> None:
    made, chart = make(), lab.project.chart
    assert chart is not None
    image = made.release.images[0]
    namespace, pod = yaml.safe_load_all((made.folder / "app-chart-1.2.3.yaml").read_text())
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "app-chart-system")
    assert pod["spec"]["containers"][0]["image"] == f"{image.repository}@{image.digest}"
    assert pod["metadata"]["namespace"] == "app-chart-system"
    with pytest.raises(UsageError, match="Pod x names no namespace"):
        plain.manifest(chart, made.release, b"kind: Pod\nmetadata: {name: x}\n")
    charts.package(lab.settings, lab.project, replace(chart, manifest=False), made.release, tmp_path / "x.tgz")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x.tgz"]


def test_it_comes_out_the_same(make: Make, lab: Lab, tmp_path: Path) -> None:
    made, chart = make(), lab.project.chart
    assert chart is not None
    charts.package(lab.settings, lab.project, chart, made.release, tmp_path / "again.tgz")
    assert (tmp_path / "again.tgz").read_bytes() == (made.folder / "app-chart-1.2.3.tgz").read_bytes()


def test_what_does_not_render_or_has_another_version_is_refused(make: Make, lab: Lab, tmp_path: Path) -> None:
    made, chart = make(), lab.project.chart
    assert chart is not None
    with pytest.raises(UsageError, match=r"Chart\.yaml: version: is '1\.2\.3'; expected 1\.2\.4"):
        charts.package(lab.settings, lab.project, chart, replace(made.release, release="1.2.4"), tmp_path / "x.tgz")
    unnamed = Chart(chart.name, chart.folder)
    with pytest.raises(InfrastructureError, match=r"helm (lint|template) refuses it: .*image\.digest"):
        charts.package(lab.settings, lab.project, unnamed, made.release, tmp_path / "x.tgz")
    assert not (tmp_path / "x.tgz").exists()


def manifest(kind: str, api: str, spec: str = "") -> bytes:
    return f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x-1}}\n{spec}".encode()


POD = "spec: {containers: [{name: app, image: app}]}"


@pytest.mark.parametrize("version", ["1.35", "1.36", "1.37"])
def test_what_a_chart_renders_is_held_against_each_version(lab: Lab, version: str) -> None:
    schemas = charts.schemas_of(lab.settings, [])
    assert list(schemas) == ["1.35", "1.36", "1.37"]

    def check(content: bytes) -> list[str]:
        return charts.against_schemas(lab.settings, version, schemas[version], content, "deploy/chart")

    assert check(manifest("Pod", "v1", POD)) == []
    assert check(manifest("PrometheusRule", "monitoring.coreos.com/v1")) == [
        "PrometheusRule (monitoring.coreos.com/v1)"
    ]
    for wrong, says in {
        manifest("Pod", "v1", POD.replace("image:", "imag:")): "Pod x-1: at '/spec/containers/0'.*'imag' not allowed",
        manifest("Deploymnt", "apps/v1"): f"Deploymnt x-1: apps/v1 has no such kind in {version}",
        manifest("PodSecurityPolicy", "policy/v1beta1"): "PodSecurityPolicy x-1: policy/v1beta1 has no such kind",
        manifest("Pod", "v1", "spec: {containers: 1}"): "Pod x-1: .*got number, want",
    }.items():
        with pytest.raises(UsageError, match=f"deploy/chart: Kubernetes {version} does not take it: {says}"):
            check(wrong)


def test_other_versions_are_taken_if_there_are_schemas(lab: Lab) -> None:
    assert list(charts.schemas_of(lab.settings, ["1.30"])) == ["1.30"]
    with pytest.raises(UsageError, match=r"no schemas of Kubernetes 1\.99; expected one of 1\.25, .*1\.37"):
        charts.schemas_of(lab.settings, ["1.99"])


def test_a_chart_that_a_version_does_not_take_is_refused(make: Make, lab: Lab, tmp_path: Path) -> None:
    made, chart = make(), lab.project.chart
    assert chart is not None
    folder = tmp_path / "app"
    shutil.copytree(lab.project.root, folder)
    template = folder / chart.folder / "templates/pod.yaml"
    template.write_text(template.read_text().replace("kind: Pod", "kind: Pood"))
    git(folder, "commit", "-qam", "mistype")
    head = git(folder, "rev-parse", "HEAD")
    release = replace(made.release, commit=head)
    project = replace(lab.project, root=folder)
    with pytest.raises(UsageError, match=r"does not take it: Pood app-chart: v1 has no such kind in 1\.35"):
        charts.package(lab.settings, project, chart, release, tmp_path / "x.tgz")
    assert not (tmp_path / "x.tgz").exists()
