"""Tasks of the lab in the namespace of admission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

JSON = "one JSON document on stdout"


@task(
    iterable=["only"],
    help={"only": "images whose name begins so (may be given more than once)", "json": JSON},
)
def test(context: Context, only: list[str], json: bool = False) -> None:  # noqa: PT028 - a task
    """Try every image of the matrix with Kyverno on, and then without it; exit code 1 if a verdict is wrong.

    Example: ./inv admission.test --only bundle
    """
    from admission.kyverno import Kyverno
    from admission.report import require_up
    from countersign.console.config import settings_from
    from lab.trials import admission, runner

    kyverno = Kyverno(settings_from(context))
    require_up(kyverno)
    runner.run(kyverno.settings, [admission.series(kyverno)], only, json=json)
