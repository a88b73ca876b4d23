"""A third runtime in one file: all that a room has to say for itself, and no more (CONTRIBUTING.md, "a runtime")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from typing_extensions import Self

from countersign.console.config import Settings
from countersign.console.errors import MissingError
from countersign.console.steps import Step
from countersign.enforcement.additions import Addition
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_files import Written
from countersign.nodes.node import Node
from countersign.nodes.steps import File, Group
from countersign.nodes.systemd import UnitRuns
from countersign.runtimes.systemd import SystemdMachine, Taken

CONFIG = "/etc/toy/countersign.conf"
PAUSE = f"registry.example/pause@sha256:{'a' * 64}"


@dataclass(frozen=True)
class Toy(SystemdMachine):
    """The adapter; ``shutter`` stands for what was taken before the first set-up."""

    shutter: str = ""

    room = "toy"
    title = "Toy"
    status = "countersign.toy-status/v1"
    unit = "toy.service"

    @classmethod
    def as_set_up(cls, settings: Settings, node: Node, addition: Addition, pins: Path) -> Self:
        return cls(settings.state, node, SYSTEM, ("toy",), pins, addition)

    def inspected(self) -> Self:
        if not self.node.run(["toyd", "--version"], check=False).text:
            raise MissingError("there is no toy", where=self.node.name, do="install one")
        return self

    @property
    def socket(self) -> str:
        return "/run/toy.sock"

    def client(self, timeout: float = 60) -> Any:
        answers = SimpleNamespace(
            version=lambda: SimpleNamespace(version="1"), list_images=list, list_pods=list, conditions=dict
        )
        return nullcontext(answers)

    def take(self) -> Taken:
        return Taken((PAUSE,), {"shutter": self.node.run(["toyd", "--version"]).text})

    def knowing(self, taken: Taken) -> Self:
        return replace(self, shutter=str(taken.more.get("shutter", "")))

    def gate_options(self) -> Mapping[str, Any]:
        return {"runtime_socket": self.socket}

    def way(self) -> list[Group]:
        return []

    def configured(self, _written: Written) -> list[Step]:
        config = File(self.node, CONFIG, f"hook = {self.layout.hook}\nshutter = {self.shutter}\n".encode())
        return [Group(self.node, "Toy by our settings", [config, UnitRuns(self.node, self.unit, [CONFIG])])]

    def restored(self, names: Sequence[str]) -> Step:
        return Restored(self)

    def taken_off(self, names: Sequence[str]) -> list[Step]:
        return [self.restored(names)]

    def fetch(self, reference: str) -> None:
        self.node.run(["toyctl", "pull", reference])

    def forget(self, *references: str) -> None:
        self.node.run(["toyctl", "rm", *references])

    def undisturbed(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Restored:
    """Toy runs as before, and nothing of ours is left."""

    toy: Toy
    name: str = "Toy is as it was"

    def needed(self) -> bool:
        return self.toy.node.exists(CONFIG) or self.toy.node.exists(SYSTEM.etc)

    def apply(self) -> None:
        node = self.toy.node
        node.run(["systemctl", "disable", "--now", "countersign-gate.service"])
        ours = (SYSTEM.etc, SYSTEM.lib, SYSTEM.run, SYSTEM.log, SYSTEM.bin, SYSTEM.verifiers, SYSTEM.certs)
        units = "/etc/systemd/system/countersign-gate.service"
        node.run(["rm", "-rf", "--", CONFIG, units, f"{units}.d", *ours])
        node.run(["systemctl", "restart", self.toy.unit])
