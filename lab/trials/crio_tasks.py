"""Tasks of the lab in CRI-O's namespace: sign the demo, and try what must start and what must not."""

from __future__ import annotations

from invoke.context import Context

from countersign.console.config import settings_from
from countersign.console.task import task

ON = "the place: vagrant (default), ssh://USER@HOST (several with commas between them), or host"
JSON = "one JSON document on stdout"
ALL_ROWS = (
    "the whole matrix, which is usual on host; on other places a row for each reason code, way, root and format is"
)


@task(help={"on": ON, "key": "private key (default: keys/cosign.key of the configuration)"})
def sign(context: Context, on: str = "", key: str = "") -> None:
    """Push the demo image to both registries and sign it in both formats; a second time adds nothing.

    Example: ./inv crio.sign
    """
    from countersign.runtimes.verbs import open_places
    from crio.backend import open_place
    from lab.trials.demo import sign_demo

    sign_demo(context, open_places(settings_from(context, on or None, room="crio"), open_place), key)


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
    """Start the signed demo; judge every image by the gate and by CRI-O's own engine; try every way to start unseen.

    Example: ./inv crio.test --only starts/
    """
    from countersign.runtimes.verbs import open_places
    from crio.backend import open_place
    from lab.trials.demo import require_up
    from lab.trials.runtimes import run_all

    for place in open_places(settings_from(context, on or None, room="crio"), open_place).each:
        require_up(place)
        run_all(place.settings, "crio", place.runtime(), only, json=json, all_rows=all_rows)
