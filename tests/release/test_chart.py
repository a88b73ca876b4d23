"""The chart of a release: as Helm takes it, with the release's image by digest."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from countersign.console.errors import InfrastructureError, UsageError
from countersign.tools.resolver import tool
from release import charts
from release.model import Chart
from tests.release.conftest import Lab, Make


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
