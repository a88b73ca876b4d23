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
        "on": "the place: host, kind, vagrant, ssh://USER@HOST (several with commas between them), or crio (a private"
        " CRI-O on this host)",
        "runtime": "what that place runs: containerd (default) or crio",
        "only": "rows whose name begins so (may be given more than once)",
        "json": JSON,
    },
)
def test(
    context: Context,
    only: list[str],
    on: str = "",  # noqa: PT028 - a task
    runtime: str = "",  # noqa: PT028
    json: bool = False,  # noqa: PT028
) -> None:
    """Try every attack of bypass/attacks.yaml and its honest twin; exit code 1 if one gets through or a twin fails.

    Example: ./inv bypass.test --on host
    """
    from containerd.on_kind import OnKind
    from countersign.runtimes.verbs import open_places
    from lab.trials import bypass, kind_pods, lab, matrix, runner
    from lab.trials.demo import require_up
    from lab.trials.runtimes import RUNTIMES
    from rollout import places

    if on == "crio":
        on, runtime = "host", runtime or "crio"
    settings, suite = settings_from(context, on or None, room=runtime or "containerd"), bypass.load()
    for place in open_places(settings, places.opener(settings)).each:
        require_up(place)
        trials = RUNTIMES[settings.room](place.settings, place.runtime()).place
        series = [matrix.series(trials, partial(lab.of, place.settings, trials))]
        if isinstance(place, OnKind):
            series.insert(0, kind_pods.series(place))
        runner.run(place.settings, bypass.of(series, suite), only, json=json)
