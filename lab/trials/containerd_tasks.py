"""Tasks of the lab in containerd's namespace: sign the demo, and try what must start and what must not."""

from __future__ import annotations

from invoke.context import Context

from countersign.console.config import settings_from
from countersign.console.task import task

ON = "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)"
JSON = "one JSON document on stdout"
ALL_ROWS = (
    "the whole matrix, which is usual on host; on other places a row for each reason code, way, root and format is"
)


@task(help={"on": ON, "key": "private key (default: keys/cosign.key of the configuration)"})
def sign(context: Context, on: str = "", key: str = "") -> None:
    """Push the demo image to both registries and sign it in both formats; a second time adds nothing.

    Example: ./inv containerd.sign
    """
    from containerd.backend import open_place
    from countersign.runtimes.verbs import open_places
    from lab.trials.demo import sign_demo

    sign_demo(context, open_places(settings_from(context, on or None), open_place), key)


@task(
    iterable=["only"],
    help={
        "on": ON,
        "only": "rows whose name begins so (may be given more than once)",
        "json": JSON,
        "all-rows": ALL_ROWS,
    },
)
def test(
    context: Context,
    only: list[str],
    on: str = "",  # noqa: PT028 - a task
    json: bool = False,  # noqa: PT028
    all_rows: bool = False,  # noqa: PT028
) -> None:
    """Start the signed demo and run the matrix, in Kind also pods of every kind; exit code 1 if a verdict is wrong.

    Example: ./inv containerd.test --only unsigned/import --only bundle
    """
    from containerd.backend import open_place
    from containerd.on_kind import OnKind
    from countersign.runtimes.verbs import open_places
    from lab.trials import kind_pods
    from lab.trials.demo import require_up
    from lab.trials.runtimes import run_all

    for place in open_places(settings_from(context, on or None), open_place).each:
        require_up(place)
        pods = kind_pods.series(place) if isinstance(place, OnKind) else None
        run_all(place.settings, "containerd", place.runtime(), only, json=json, all_rows=all_rows, pods=pods)
