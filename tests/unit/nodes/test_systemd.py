from __future__ import annotations

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes import systemd
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
    assert UnitRuns(Systemd(show, written), "x.service", ["/a", "/b"]).needed() is needed


def test_what_a_unit_says_when_it_does_not_start_is_in_the_error():
    with pytest.raises(InfrastructureError, match=r"n1: x\.service: did not start: it says why"):
        UnitRuns(Systemd(UP, restart=1), "x.service").apply()


class Reloaded(Systemd):
    """A node whose unit has a new main process once it was told to reload, if it hands over at all."""

    def __init__(self, show: str, *, hands_over: bool = True, code: int = 0) -> None:
        super().__init__(show)
        self.__dict__.update(told=[], hands_over=hands_over, code=code)

    def run(self, argv, *, check=True, **options):
        if argv[0] == "systemctl" and argv[1] in ("reload", "restart"):
            self.__dict__["told"].append(argv[1])
        if argv[:2] == ["systemctl", "reload"]:
            if self.__dict__["hands_over"]:
                self.__dict__["show"] = self.__dict__["show"].replace("MainPID=42", "MainPID=43")
            return Result(tuple(argv), self.__dict__["code"], b"", b"", 0.0)
        return super().run(argv, check=check, **options)


RELOADS = f"{UP}CanReload=yes\n"


@pytest.mark.parametrize(
    ("node", "hands_over", "told"),
    [
        (Reloaded(RELOADS), True, ["reload"]),
        (Reloaded(RELOADS), False, ["restart"]),
        (Reloaded(UP), True, ["restart"]),
        (Reloaded(RELOADS.replace("Reload=no", "Reload=yes")), True, ["restart"]),
        (Reloaded(RELOADS.replace("State=active", "State=failed")), True, ["restart"]),
        (Reloaded(RELOADS, code=1), True, ["reload", "restart"]),
        (Reloaded(RELOADS, hands_over=False), True, ["reload", "restart"]),
    ],
    ids=["it can", "a unit of another kind", "an older unit", "a changed unit", "down", "not told", "no successor"],
)
def test_a_unit_hands_over_where_it_can_and_else_starts_again(node, hands_over, told, monkeypatch):
    monkeypatch.setattr(systemd, "HANDED_OVER_WITHIN", 0.3)
    UnitRuns(node, "x.service", hands_over=hands_over).apply()
    assert node.told == told


def test_a_unit_that_handed_over_has_read_what_was_there_then():
    later = "ExecMainStartTimestamp=Tue 2026-11-24 08:00:10.250000 UTC\n"
    written = f"{SINCE + 5}"
    assert UnitRuns(Systemd(UP, written), "x.service", ["/a"]).needed()
    assert not UnitRuns(Systemd(UP + later, written), "x.service", ["/a"]).needed()
