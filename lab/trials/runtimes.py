"""Each runtime's adapter: what its room has to give so that all trials run on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from countersign.console import output
from countersign.console.config import Settings
from lab.trials import lab, matrix, runner
from lab.trials.cri_place import CriPlace
from lab.trials.place import Place
from lab.trials.rows import Series


@dataclass(frozen=True)
class Trials:
    """What is tried on a runtime.

    Attributes:
        as_set_up: the runtime as its user has it: the signed demo is started there.
        place: the same while the gate alone decides: the matrix runs there.
        more: trials of this runtime alone.
    """

    as_set_up: CriPlace
    place: Place
    more: Sequence[Series] = ()


def _containerd(settings: Settings, runtime: Any) -> Trials:
    from lab.trials.containerd_place import ContainerdPlace

    place = ContainerdPlace(runtime, settings.policy)
    return Trials(place, place)


def _crio(settings: Settings, runtime: Any) -> Trials:
    from lab.trials import crio_own, crio_starts
    from lab.trials.crio_place import CrioPlace

    place = CrioPlace(runtime, settings.policy)

    def images() -> lab.Lab:
        return lab.of(settings, place)

    more = [each.series(settings, runtime, images) for each in (crio_own, crio_starts)]
    return Trials(CrioPlace(runtime, settings.policy, "both"), place, more)


RUNTIMES: Mapping[str, Callable[[Settings, Any], Trials]] = {"containerd": _containerd, "crio": _crio}
"""A runtime's name → its trials, given what its set-up made (`countersign.enforcement.runtime.Runtime`)."""


def run_all(
    settings: Settings,
    name: str,
    runtime: Any,
    only: Sequence[str],
    *,
    json: bool,
    all_rows: bool = False,
    pods: Series | None = None,
) -> None:
    """Start the signed demo and run all trials of a runtime, or only those whose names begin with one of ``only``.

    Args:
        only: beginnings of rows' names.
        all_rows: take the whole matrix also where a sample of it is usual.
        pods: what only the API server of its cluster can show, tried first and in place of the demo.

    Raises:
        UsageError: nothing begins so.
        VerdictError: something came out otherwise than it must.
    """
    from lab.trials.demo import start_demo

    trials = RUNTIMES[name](settings, runtime)
    series = [
        *([pods] if pods else []),
        matrix.series(trials.place, lambda: lab.of(settings, trials.place)),
        *trials.more,
    ]
    if not (only or pods):
        for reference in start_demo(trials.as_set_up):
            output.done(f"{reference} pulled, started, and answers")
    runner.run(settings, series, only, json=json, all_rows=all_rows)
