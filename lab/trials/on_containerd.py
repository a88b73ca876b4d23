"""All that is tried on containerd, at every kind of place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from containerd.on_kind import OnKind

if TYPE_CHECKING:
    from containerd.backend import Backend


def run_all(place: Backend, only: Sequence[str], *, json: bool) -> None:
    """Run the rows of the matrix, and what the place alone can show, whose ids begin with one of ``only``.

    Without any, all are run, and before them the signed demo is started.

    Raises:
        UsageError: nothing begins so.
        VerdictError: a verdict was not the expected one.
    """
    if isinstance(place, OnKind):
        _on_kind(place, only, json=json)
    else:
        _on_one_node(place, only, json=json)


def _on_one_node(place: Backend, only: Sequence[str], *, json: bool) -> None:
    from countersign.console import output
    from lab.trials import trial
    from lab.trials.containerd_place import ContainerdPlace

    cases = trial.chosen(only)
    at = ContainerdPlace(place.runtime(), place.settings.policy)
    if not only:
        for reference in trial.start_demo(at):
            output.done(f"{reference} pulled, started, and answers")
    trial.run_and_show(place.settings, at, cases, json=json)


def _on_kind(place: OnKind, only: Sequence[str], *, json: bool) -> None:
    """Run the rows on the first worker over CRI, and pods of every kind through the API server."""
    from lab.trials import trial
    from lab.trials.containerd_place import ContainerdPlace
    from lab.trials.kind_pods import KindPods
    from lab.trials.pods.model import load

    pods = [each for each in load() if not only or any(each.id.startswith(name) for name in only)]
    rows = [name for name in only if not any(each.id.startswith(name) for each in pods)]
    cases = trial.chosen(rows) if rows or not only else []
    if pods:
        trials = KindPods(place.settings, place.cluster(), place.workers(), place.docker, place.registry, place.load)
        trials.run_and_show(pods)
    if cases:
        at = ContainerdPlace(place.runtime(), place.settings.policy)
        trial.run_and_show(place.settings, at, cases, json=json)
