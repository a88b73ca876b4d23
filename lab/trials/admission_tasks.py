"""Tasks of the lab in the namespace of admission."""

from __future__ import annotations

from invoke.context import Context

from countersign.console.config import settings_from
from countersign.console.task import task

JSON = "one JSON document on stdout"


@task(
    iterable=["only"],
    help={
        "engine": "kyverno (the default) or gatekeeper",
        "only": "images whose name begins so (may be given more than once)",
        "json": JSON,
    },
)
def test(context: Context, only: list[str], engine: str = "kyverno", json: bool = False) -> None:  # noqa: PT028
    """Try every image of the matrix with the engine on, and then without it; exit code 1 if a verdict is wrong.

    Example: ./inv admission.test --only bundle
    """
    from admission.engines import engine_of, require_up
    from lab.trials import admission, runner

    found = engine_of(engine, settings_from(context))
    require_up(found)
    runner.run(found.settings, [admission.series(found)], only, json=json)
