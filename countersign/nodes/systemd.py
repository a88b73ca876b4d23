"""Services of a node that systemd keeps running."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from countersign.console.errors import InfrastructureError
from countersign.nodes.node import CommandError, Node

ASKED = ("ActiveState", "SubState", "MainPID", "NRestarts", "NeedDaemonReload", "UnitFileState", "Result", "CanReload")
MOMENTS = ("ActiveEnterTimestamp", "ExecMainStartTimestamp")
JOURNAL_LINES = 15
START_TIMEOUT = 120.0
HANDED_OVER_WITHIN = 55.0
"""More than the gate gives its successor (45 s) and then itself (6 s)."""
PAUSE = 0.1


@dataclass(frozen=True)
class UnitState:
    """How a unit is (systemctl(1), ``show``).

    Attributes:
        active: ``active``, ``inactive``, ``failed``, …
        sub: such as ``running``.
        main_pid: 0 when there is none.
        restarts: how often systemd restarted it by itself.
        since: when it became active, or its main process was replaced since; seconds since the epoch; 0.0 for never.
        enabled: whether it starts with the machine.
        stale: its unit file is newer than what systemd has read.
        result: how it ended last: ``success``, ``exit-code``, ``watchdog``, …
        can_reload: the unit as systemd has read it says how to reload.
    """

    active: str
    sub: str
    main_pid: int
    restarts: int
    since: float
    enabled: bool
    stale: bool
    result: str
    can_reload: bool = False


def unit_state(node: Node, unit: str) -> UnitState:
    """Return how a unit is; one that systemd does not know is ``inactive``."""
    properties = ["--property=" + ",".join((*ASKED, *MOMENTS)), "--timestamp=us+utc"]
    shown = node.run(["systemctl", "show", *properties, "--", unit]).text.splitlines()
    found = dict(line.split("=", 1) for line in shown if "=" in line)
    return UnitState(
        active=found.get("ActiveState", "inactive"),
        sub=found.get("SubState", ""),
        main_pid=int(found.get("MainPID") or 0),
        restarts=int(found.get("NRestarts") or 0),
        since=max(_moment(found.get(name, "")) for name in MOMENTS),
        enabled=found.get("UnitFileState", "").startswith("enabled"),
        stale=found.get("NeedDaemonReload") == "yes",
        result=found.get("Result", ""),
        can_reload=found.get("CanReload") == "yes",
    )


@dataclass(frozen=True)
class UnitRuns:
    """A unit runs, and has read these files.

    Attributes:
        node: where.
        unit: such as ``containerd.service``.
        inputs: files that it reads at its start; one that is newer makes it start again.
        enable: it also starts with the machine.
        hands_over: its reload has it replaced without a gap by a new process, which reads the files anew and is named
            by ``MAINPID=`` (sd_notify(3)).
    """

    node: Node
    unit: str
    inputs: Sequence[str] = ()
    enable: bool = True
    hands_over: bool = False

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.unit} runs"

    def needed(self) -> bool:
        """Return whether it is down, would not start with the machine, or was started before a file was written."""
        found = unit_state(self.node, self.unit)
        if found.active != "active" or found.stale or (self.enable and not found.enabled):
            return True
        return bool(self.inputs) and _newest(self.node, self.inputs) > found.since

    def apply(self) -> None:
        """Start it, have it hand over where it can, or start it again.

        Raises:
            InfrastructureError: it did not start; the end of its journal is in the text.
        """
        before = unit_state(self.node, self.unit)  # as it runs: only a unit that said so then can hand over
        self.node.run(["systemctl", "daemon-reload"])
        if self.enable:
            self.node.run(["systemctl", "enable", "--quiet", "--", self.unit])
        if self.hands_over and _handed_over(self.node, self.unit, before):
            return
        try:
            self.node.run(["systemctl", "restart", "--", self.unit], timeout=START_TIMEOUT)
        except CommandError as error:
            journal = ["journalctl", f"--unit={self.unit}", f"--lines={JOURNAL_LINES}", "--output=cat", "--no-pager"]
            end = self.node.run(journal, check=False).text
            raise InfrastructureError(f"did not start: {end}", where=f"{self.node.name}: {self.unit}") from error


def _handed_over(node: Node, unit: str, before: UnitState) -> bool:
    """Have a running unit replaced by what lies in its place now; return False where only a restart does that.

    A changed unit file counts only for what systemd itself starts.
    """
    if before.active != "active" or before.stale or not before.can_reload or not before.main_pid:
        return False
    if node.run(["systemctl", "reload", "--", unit], check=False).code:
        return False
    deadline = time.monotonic() + HANDED_OVER_WITHIN
    while time.monotonic() < deadline:
        now = unit_state(node, unit)
        if now.main_pid not in (0, before.main_pid):
            return now.active == "active"
        time.sleep(PAUSE)
    return False


def _newest(node: Node, paths: Sequence[str]) -> float:
    """Return when the last of these files was changed, or moved there; a missing one counts as changed now."""
    found = node.run(["stat", "-L", "-c", "%.6Z", "--", *paths], check=False)
    return max(map(float, found.text.split()), default=0.0) if found.code == 0 else time.time()


def _moment(text: str) -> float:
    """Return systemd's ``Tue 2026-11-24 08:00:00.000000 UTC`` in seconds since the epoch."""
    from datetime import datetime, timezone

    if not text:
        return 0.0
    return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=timezone.utc).timestamp()
