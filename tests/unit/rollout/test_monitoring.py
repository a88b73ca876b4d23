"""Rules, dashboard and page name metrics that the gate has, and each other's alerts and series."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from countersign.console.config import ROOT
from lab.trials.rows import reason_codes

FILES = ROOT / "rollout" / "chart" / "files"
PAGE = (ROOT / "docs" / "metrics.md").read_text()
TABLE = re.findall(
    r'^\t\{"(countersign_[a-z_]+)", (counter|gauge|histogram), (nil|\[\]string\{([^}]*)\})',
    (ROOT / "gate" / "internal" / "daemon" / "described.go").read_text(),
    re.MULTILINE,
)
CLIENTS = {"up": {"job", "instance"}, "process_start_time_seconds": set(), "process_resident_memory_bytes": set()}
"""What Prometheus itself and its client in Go bring."""
SELECTED = re.compile(
    r"(?<![\w:\"])([a-z][a-z_]*(?::[a-z_0-9]+)*)\{([^}]*)\}|(?<![\w:\"])(countersign_[a-z_]+)(?![\w:{])"
)


def metrics() -> dict[str, set[str]]:
    """Return the names that the gate serves, with their labels."""
    found = dict(CLIENTS)
    for name, kind, _, labels in TABLE:
        own = set(re.findall(r'"(\w+)"', labels))
        found |= {f"{name}_bucket": {*own, "le"}} if kind == "histogram" else {name: own}
    return found


def rules() -> list[dict[str, Any]]:
    """Return all rules of the file."""
    document = yaml.safe_load((FILES / "rules.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Return the dashboard's model."""
    found: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of the rules and the dashboard, with where it is."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_the_codes_table_is_read_whole() -> None:
    assert len(TABLE) > 15
    assert [name for name, *_ in TABLE] == re.findall(r"^\| `(countersign_\w+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_names_metrics_and_labels_that_there_are(where: str, expression: str) -> None:
    known = metrics() | {rule["record"]: {"code", "layer"} for rule in rules() if "record" in rule}
    named = [(name or bare, selector) for name, selector, bare in SELECTED.findall(expression)]
    recorded = [name for name in known if ":" in name and name in expression]
    assert named or recorded, where
    for name, selector in named:
        assert name in known, where
        labels = set(re.findall(r"(\w+)(?:!=|=~|!~|=)", selector))
        assert labels <= known[name] | {"job", "instance"}, (where, name)


def test_a_metric_or_label_that_is_not_there_is_seen() -> None:
    for wrong in (
        "countersign_verdict_total > 0",
        'countersign_verdicts_total{reason="x"} > 0',
        "instance:none:rate5m{} > 0",
    ):
        with pytest.raises(AssertionError):
            test_an_expression_names_metrics_and_labels_that_there_are("here", wrong)


def test_codes_in_selectors_are_reason_codes() -> None:
    named = {code for _, text in expressions() for code in re.findall(r"[A-Z][A-Z_]+[A-Z]", text)}
    assert named
    assert named <= set(reason_codes())


def test_every_alert_says_what_to_do_and_is_on_the_page() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert set(re.findall(r"`(Countersign\w+)`", PAGE)) == set(alerts)
    for rule in alerts.values():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "$labels.instance" in rule["annotations"]["summary"]


def test_the_dashboard_is_a_model_that_grafana_takes() -> None:
    model = dashboard()
    assert model["schemaVersion"] >= 36
    names = {variable["name"] for variable in model["templating"]["list"]}
    text = json.dumps(model["panels"])
    assert set(re.findall(r"\$\{?(\w+)", text)) <= names
    panels = model["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in {"stat", "timeseries", "table"}
        assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
