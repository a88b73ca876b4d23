"""Tasks: the public bypass suite against what set-up made."""

from __future__ import annotations

from functools import partial

from invoke.context import Context

from countersign.console.config import settings_from
from countersign.console.task import task

JSON = "one JSON document on stdout"


@task(
    iterable=["only"],
    help={
        "on": "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)",
        "only": "rows whose name begins so (may be given more than once)",
        "json": JSON,
    },
)
def test(context: Context, only: list[str], on: str = "", json: bool = False) -> None:  # noqa: PT028 - a task
    """Try every attack of bypass/attacks.yaml and its honest twin; exit code 1 if one gets through or a twin fails.

    Example: ./inv bypass.test --on host
    """
    from containerd.backend import open_place
    from containerd.on_kind import OnKind
    from countersign.runtimes.verbs import open_places
    from lab.trials import bypass, kind_pods, lab, matrix, runner
    from lab.trials.demo import require_up
    from lab.trials.runtimes import RUNTIMES

    suite = bypass.load()
    for place in open_places(settings_from(context, on or None), open_place).each:
        require_up(place)
        trials = RUNTIMES["containerd"](place.settings, place.runtime()).place
        series = [matrix.series(trials, partial(lab.of, place.settings, trials))]
        if isinstance(place, OnKind):
            series.insert(0, kind_pods.series(place))
        runner.run(place.settings, bypass.of(series, suite), only, json=json)
