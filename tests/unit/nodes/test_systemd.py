from __future__ import annotations

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.host import HostNode
from countersign.nodes.node import CommandError, Result
from countersign.nodes.systemd import UnitRuns, unit_state

UP = (
    "ActiveState=active\nSubState=running\nMainPID=42\nNRestarts=3\nNeedDaemonReload=no\nUnitFileState=enabled\n"
    "Result=success\nActiveEnterTimestamp=Tue 2026-11-24 08:00:00.250000 UTC\n"
)
SINCE = 1795507200.25


class Systemd(HostNode):
    """A node with one unit, and files that were written at a given time."""

    def __init__(self, show: str, written: str = "", restart: int = 0) -> None:
        super().__init__("n1")
        self.__dict__.update(show=show, written=written, restart=restart)

    def run(self, argv, *, check=True, **_):
        line = " ".join(argv)
        out, code = "", 0
        if line.startswith("systemctl show"):
            out = self.__dict__["show"]
        elif line.startswith("stat"):
            out, code = self.__dict__["written"], 0 if self.__dict__["written"] else 1
        elif line.startswith("systemctl restart"):
            code = self.__dict__["restart"]
        elif line.startswith("journalctl"):
            out = "it says why"
        result = Result(tuple(argv), code, out.encode(), b"", 0.0)
        if check and code:
            raise CommandError(result, self.name)
        return result


def test_the_state_of_a_unit_is_read():
    found = unit_state(Systemd(UP), "x.service")
    assert (found.active, found.main_pid, found.restarts, found.since) == ("active", 42, 3, SINCE)
    assert (found.enabled, found.stale) == (True, False)


def test_a_unit_that_systemd_does_not_know_is_inactive():
    found = unit_state(Systemd("ActiveState=inactive\nMainPID=0\nActiveEnterTimestamp=\n"), "x.service")
    assert (found.active, found.main_pid, found.since) == ("inactive", 0, 0.0)


@pytest.mark.parametrize(
    ("show", "written", "needed"),
    [
        (UP, f"{SINCE - 1}\n{SINCE - 2}", False),
        (UP, f"{SINCE - 1}\n{SINCE + 1}", True),
        (UP, "", True),
        (UP.replace("ActiveState=active", "ActiveState=failed"), "1.0", True),
        (UP.replace("=enabled", "=disabled"), "1.0", True),
        (UP.replace("Reload=no", "Reload=yes"), "1.0", True),
    ],
    ids=["older files", "a newer file", "a missing file", "failed", "disabled", "stale"],
)
def test_a_unit_is_started_again_when_it_has_to_be(show: str, written: str, needed: bool):
    assert UnitRuns("x.service", ["/a", "/b"]).needed(Systemd(show, written)) is needed


def test_what_a_unit_says_when_it_does_not_start_is_in_the_error():
    with pytest.raises(InfrastructureError, match=r"n1: x\.service: did not start: it says why"):
        UnitRuns("x.service").apply(Systemd(UP, restart=1))
