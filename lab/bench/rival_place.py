"""A containerd where something else than the gate checks, or nothing, as a place where the matrix runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containerd.instance import Instance
from lab.bench.model import COSIGN, NO_HOOK
from lab.trials.containerd_place import ContainerdPlace
from lab.trials.cri_place import away
from lab.trials.model import Case
from lab.trials.place import NONE

VERIFIER = Path(__file__).with_name("cosign-verifier.sh")
NO_DAEMON = frozenset({"gate_stopped", "gate_stopped_at_start", "gate_hung", "gate_hung_at_start", "gate_back"})
RESTARTS = frozenset(
    {
        *("added_handler", "hooked_handler", "other_runtime"),
        *("added_handler_gate_hung", "hook_program_missing_gate_hung"),
    }
)


@dataclass(frozen=True)
class Rival:
    """What checks.

    Attributes:
        key: its name in JSON.
        title: its name in tables.
        handler: the runtime handler under which it checks at start.
        pulls: whether it checks at pull.
    """

    key: str
    title: str
    handler: str = NO_HOOK.handler
    pulls: bool = False


LAX = "lax.yaml"
OURS = Rival("countersign", "countersign", handler="runc", pulls=True)
NOTHING = Rival("nothing", "nothing")
BINDIR = Rival("bindir", "bindir verifier, cosign", pulls=True)
HOOK = Rival("hook", "shell hook, cosign", handler=COSIGN.handler)


class RivalPlace(ContainerdPlace):
    """The bench's containerd with one rival in the gate's place: what is cached came before the rival was there."""

    def __init__(self, runtime: Instance, users_policy: Path, rival: Rival, cosign: Sequence[str]) -> None:
        """Open the place; see `CriPlace`.

        Args:
            users_policy: what the gate itself decides by, meanwhile and afterwards: nobody asks it.
            cosign: its program, the key, the registry's name and its address; and the shell hook's script.
        """
        super().__init__(runtime, users_policy)
        self._rival = rival
        *self._settings, self._script = cosign
        self._folder = runtime.layout.verifiers
        self._gates = runtime.node.run(["readlink", runtime.layout.verifier], check=False).text

    def why_not(self, case: Case) -> str:
        """See `lab.trials.place.Place.why_not`."""
        if case.way in NO_DAEMON:
            return "it has no daemon that could stop"
        if case.way in RESTARTS:
            return "its handlers are the bench's"
        return super().why_not(case)

    @property
    def other_handler(self) -> str:
        """A runtime handler beside the one with the rival's hook."""
        return NO_HOOK.handler

    def create(
        self,
        image_id: str,
        written: str,
        *,
        handler: str = "",
        volume: str = "",
        annotations: Mapping[str, str] = NONE,
        command: tuple[str, ...] = (),
    ) -> str:
        """Create a container under the rival's handler, where none is asked for."""
        chosen = handler or self._rival.handler
        more = {"command": command} if command else {}
        return super().create(image_id, written, handler=chosen, volume=volume, annotations=annotations, **more)

    def set_policy(self, source: Path) -> None:
        """Have the rival check pulls under the strict policy, and nobody under the lax one."""
        self.check_pulls(here=source.name != LAX)

    def check_pulls(self, *, here: bool = True) -> None:
        """Have the rival check pulls from now on, if it does that; else nobody."""
        node = self.at.node
        node.run(["find", self._folder, "-mindepth", "1", "-delete"])
        if here and self._rival == OURS:
            node.run(["ln", "-s", self._gates, self.at.layout.verifier])
        elif here and self._rival.pulls:
            node.put(("\n".join(self._settings) + "\n").encode(), f"{self._folder}/../cosign-verifier.settings")
            node.put(VERIFIER.read_bytes(), f"{self._folder}/{VERIFIER.name}", 0o755)

    def restore_policy(self) -> None:
        """Have the gate check pulls, as set-up left it."""
        self.check_pulls(here=False)
        self.at.node.run(["ln", "-s", self._gates, self.at.layout.verifier])

    def forget_evidence(self) -> None:
        """It keeps none."""

    def verdicts(self) -> list[dict[str, Any]]:
        """It keeps no log of them."""
        return []

    def hook_program_missing(self) -> AbstractContextManager[None]:
        """Keep the program away that the rival runs."""
        return away(self.at.node, f"{self._folder}/{VERIFIER.name}" if self._rival.pulls else self._script)
