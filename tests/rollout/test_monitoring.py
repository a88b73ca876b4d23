"""What the chart brings for Prometheus and Grafana, as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import yaml

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.tools.resolver import tool

CHART = ROOT / "rollout" / "chart"
ALL = [
    "port=9479",
    "podMonitor=true",
    "rules=true",
    "dashboard=true",
    "labels.release=ours",
    "tokenSecret.name=scraper",
]


def rendered(*monitoring: str) -> subprocess.CompletedProcess[str]:
    """Render the chart with these values below ``monitoring``."""
    values = ["image.repository=a.example/gate", f"image.digest=sha256:{'0' * 64}", "policy.content=some"]
    given = [word for value in [*values, *(f"monitoring.{each}" for each in monitoring)] for word in ("--set", value)]
    argv = [str(tool("helm", load_settings())), "template", "us", str(CHART), *given]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def objects(*monitoring: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what is rendered, by kind and name."""
    done = rendered(*monitoring)
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout) if each}


def agent(found: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    container: dict[str, Any] = found["DaemonSet", "us"]["spec"]["template"]["spec"]["containers"][0]
    return container


def test_by_default_there_is_nothing_of_it() -> None:
    found = objects()
    assert not {"PrometheusRule", "PodMonitor"} & {kind for kind, _ in found}
    assert ("ConfigMap", "us-dashboard") not in found
    assert "ports" not in agent(found)


def test_by_value_it_has_the_files_as_they_are_and_the_agents_port() -> None:
    found = objects(*ALL)
    assert found["PrometheusRule", "us"]["spec"] == yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    given = json.loads(found["ConfigMap", "us-dashboard"]["data"]["countersign.json"])
    assert given == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert "--metrics=:9479" in agent(found)["args"]
    (port,) = agent(found)["ports"]
    assert found["PodMonitor", "us"]["spec"]["podMetricsEndpoints"][0]["port"] == port["name"]
    for name in (("PrometheusRule", "us"), ("PodMonitor", "us"), ("ConfigMap", "us-dashboard")):
        assert found[name]["metadata"]["labels"]["release"] == "ours"


def test_only_who_has_a_good_token_is_given_metrics_unless_everybody_is_to_be() -> None:
    found = objects(*ALL)
    assert "--metrics-auth=token" in agent(found)["args"]
    (endpoint,) = found["PodMonitor", "us"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["authorization"]) == (
        "https",
        {"credentials": {"name": "scraper", "key": "token"}},
    )
    assert reviews(found) == ["tokenreviews", "subjectaccessreviews"]
    found = objects(*ALL, "auth=none")
    assert "--metrics-auth=none" in agent(found)["args"]
    assert "scheme" not in found["PodMonitor", "us"]["spec"]["podMetricsEndpoints"][0]
    assert reviews(found) == []
    assert reviews(objects()) == []


def reviews(found: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """Return which reviews an agent may ask for."""
    rules = found["ClusterRole", "us-agent"]["rules"]
    return [name for rule in rules for name in rule["resources"] if name.endswith("reviews")]


def test_a_pod_monitor_without_a_token_is_not_made() -> None:
    done = rendered("port=9479", "podMonitor=true")
    assert done.returncode != 0
    assert "monitoring.tokenSecret.name is empty" in done.stderr
    assert rendered("port=9479", "podMonitor=true", "tokenSecret.name=scraper").returncode == 0


def test_nothing_is_scraped_where_nothing_is_served() -> None:
    done = rendered("podMonitor=true")
    assert done.returncode != 0
    assert "/monitoring/port" in done.stderr
