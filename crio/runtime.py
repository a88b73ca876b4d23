"""CRI-O, wherever and however it is kept running: what it has to say for itself beside every other runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.enforcement.gate import CrioStorage
from countersign.runtimes.machine import Machine
from crio import enforce
from crio.paths import INSTALLED, Paths

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.nodes.steps import Group
    from crio.render import Engine

UNIT = "crio.service"


@dataclass(frozen=True)
class Crio(Machine):
    """See `countersign.runtimes.machine.Machine`.

    Attributes:
        paths: where CRI-O's own files lie there.
        engine: how strict its own engine is.
        tags: names by tag of what set-up pinned, which its own engine lets pass.
    """

    paths: Paths = INSTALLED
    engine: Engine = "strict"
    tags: Sequence[str] = ()

    room = "crio"
    title = "CRI-O"
    verb = "configure"
    status = "countersign.crio-status/v1"
    unit = UNIT
    answers_within = 120.0
    """An emulated machine takes one of the two minutes."""

    @property
    def socket(self) -> str:
        """See `Machine.socket`."""
        return self.paths.socket

    @property
    def crio_socket(self) -> str:
        """See `Machine.crio_socket`."""
        return self.paths.socket

    def own_files(self) -> Sequence[str]:
        """See `Machine.own_files`."""
        return (self.paths.policy, self.paths.drop_in, self.paths.hook)

    def prove_options(self) -> list[str]:
        """See `Machine.prove_options`."""
        return ["--crio-socket", self.socket, "--crio-certs", self.paths.certs, *super().prove_options()]

    def storage(self) -> tuple[str, str]:
        """Return graph root and run root of containers/storage."""
        return self.paths.storage, self.paths.run_storage

    def gate_options(self) -> Mapping[str, Any]:
        """See `Machine.gate_options`."""
        return {"crio": CrioStorage(*self.storage(), self.paths.nri, self.socket)}

    def way(self) -> list[Group]:
        """See `Machine.way`."""
        return enforce.way_to_registries(self.node, self.layout, self.paths, self.addition)

    def own_policy(self, policy: Path, pins: Sequence[str], *, keys_to_come: bool = False) -> list[Step]:
        """See `Machine.own_policy`."""
        tags = tuple(self.tags)
        return [enforce.NativePolicy(self, policy, tuple(pins), tags, keys_to_come=keys_to_come)]

    def remembered(self) -> list[Step]:
        """See `Machine.remembered`."""
        return [enforce.hook_file(self.node, self.layout, self.paths)]

    def fetch(self, reference: str) -> None:
        """See `Machine.fetch`: CRI-O has no way past its own engine, so it pulls; the gate has no say then."""
        with self.client() as client:
            client.pull(reference, self.credentials(reference))

    def forget(self, *references: str) -> None:
        """See `Machine.forget`: each with all its names, for CRI-O forgets no single one."""
        with self.client() as client:
            for reference in references:
                client.remove_image(reference)


def engine_of(settings: Settings) -> Engine:
    """Return how strict the settings want CRI-O's own engine."""
    return "lenient" if settings.crio.engine == "lenient" else "strict"
