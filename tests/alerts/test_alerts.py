"""The chart's rules and the gate's metrics, as Prometheus' own promtool takes them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.tools.resolver import tool

RULES = ROOT / "rollout" / "chart" / "files" / "rules.yaml"
TESTS = Path(__file__).parent / "rules.test.yaml"


def promtool(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    program = str(tool("promtool", load_settings()))
    return subprocess.run([program, *words], input=text, capture_output=True, text=True, check=False, timeout=60)


def tried(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    """Run the rules' tests on these rules."""
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    shutil.copy(TESTS, folder)
    return promtool("test", "rules", str(folder / TESTS.name))


def test_the_rules_fire_where_they_have_to_and_nowhere_else(tmp_path: Path) -> None:
    done = tried(tmp_path, RULES.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("countersign_policy_valid == 0", "countersign_policy_valid == 1"),
        ('job="countersign"} == 0 or', 'job="countersign"} == 2 or'),
        ("> 0 < 30 * 86400", "> 0 < 3 * 86400"),
        ("[15m]) > 2", "[15m]) > 0"),
    ],
)
def test_a_rule_that_says_something_else_fails_its_test(was: str, becomes: str, tmp_path: Path) -> None:
    rules = RULES.read_text()
    assert rules.count(was) == 1
    done = tried(tmp_path, rules.replace(was, becomes))
    assert (done.returncode, "FAILED" in done.stdout + done.stderr) == (1, True)


def test_every_alert_is_tried() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    fired = {
        test["alertname"]
        for one in yaml.safe_load(TESTS.read_text())["tests"]
        for test in one.get("alert_rule_test", [])
        if test["exp_alerts"]
    }
    assert fired == set(alerts)


def test_the_gates_metrics_are_as_promtool_wants_them(tmp_path: Path) -> None:
    """Go's own tests write what a gate serves whose every metric has a value."""
    from countersign.tools.toolchain import go_environment

    settings = load_settings()
    environment = go_environment(settings.cache, settings.offline)
    written = tmp_path / "metrics.txt"
    words = ["test", "-tags=containers_image_openpgp", "-count=1", "-run", "TestExposition", "./internal/daemon"]
    subprocess.run(
        [str(tool("go", settings)), *words],
        cwd=ROOT / "gate",
        env={**os.environ, **environment, "METRICS_FILE": str(written)},
        check=True,
        capture_output=True,
    )
    ours = [line for line in written.read_text().splitlines() if re.match(r"(# \w+ )?countersign_", line)]
    assert len(ours) > 60
    done = promtool("check", "metrics", text="\n".join(ours) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
