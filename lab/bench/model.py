"""What is measured, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["same", "stored", "remote"]
"""Which images a variant starts.

``same``: one image, started before, so that the gate remembers its verdict.
``stored``: another one each time, whose evidence lies on the node and of which the gate remembers nothing.
``remote``: another one each time, of which the node has neither evidence nor memory.
"""


@dataclass(frozen=True)
class Variant:
    """One way to start a container.

    Attributes:
        key: its name in JSON.
        title: its name in tables.
        handler: the runtime handler, which has the hook.
        kind: which images it starts.
        source: where the gate must say that the outcome came from; empty where no gate is asked.
        checks: an unsigned image must be refused.
    """

    key: str
    title: str
    handler: str
    kind: Kind = "same"
    source: str = ""
    checks: bool = True


NO_HOOK = Variant("no-hook", "no hook", "bench-none", checks=False)
NO_OP = Variant("no-op", "no-op static hook", "bench-noop", checks=False)
WARM = Variant("warm", "countersign, warm", "runc", "same", "memory")
STORED = Variant("cold-evidence", "countersign, cold, evidence on the node", "runc", "stored", "store")
REMOTE = Variant("cold-registry", "countersign, cold, evidence in the registry", "runc", "remote", "registry")
COSIGN = Variant("cosign", "shell hook with cosign verify", "bench-cosign")
VARIANTS = (NO_HOOK, NO_OP, WARM, STORED, REMOTE, COSIGN)


@dataclass(frozen=True)
class Sample:
    """One measured start.

    Attributes:
        create: wall time of CreateContainer, ms.
        start: wall time of StartContainer, ms.
        gate: time in the gate, ms, by its verdict log; None where no gate was asked.
        source: where the outcome came from, by the verdict log.
        verifications: how many the gate made for it, by its metrics.
    """

    variant: str
    turn: int
    create: float
    start: float
    gate: float | None = None
    source: str = ""
    verifications: int = 0

    @property
    def both(self) -> float:
        """Wall time of create and start, ms."""
        return self.create + self.start


@dataclass(frozen=True)
class Burst:
    """Starts of one image at once.

    Attributes:
        seconds: wall time until the last one was started.
        verifications: how many the gate made for all of them, by its metrics.
        sources: where the outcomes came from: source → how many.
        gate: time in the gate of each, ms.
    """

    starts: int
    seconds: float
    verifications: int
    sources: dict[str, int]
    gate: list[float]


@dataclass(frozen=True)
class HooksOnly:
    """Hooks run by themselves, process start included, ms: the one that does nothing, and countersign's, warm."""

    noop: list[float]
    hook: list[float]


@dataclass(frozen=True)
class Sizes:
    """What gate and hook take: resident memory after the run, and bytes of the hook's file."""

    gate_rss: int
    hook: int
