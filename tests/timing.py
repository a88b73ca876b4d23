"""A pytest plugin: what the tests of each part took, beside the part's budget."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.parts import PARTS, spent

_seconds: defaultdict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a test's set-up, call or teardown to its part."""
    _seconds["/".join(report.nodeid.split("/")[:2])] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the sums before pytest's closing line."""
    for part in PARTS:
        if part.folder in _seconds:
            terminalreporter.write_line(spent(part, _seconds[part.folder]))
