"""The task that runs the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    name="test",
    iterable=["part"],
    help={
        "part": "one of those that --list names; repeatable (default: all that are on turn)",
        "list": "only print the names of the parts that would be run, one a line",
    },
)
def run_tests(context: Context, part: list[str] | None = None, list: bool = False) -> None:  # noqa: A002
    """Test this checkout: style, types, Go, unit, cosign, end to end.

    What cannot run here is skipped and says why; the configuration's `require`
    (a list of parts, or all) makes that a failure. `tests.turn` lets heavy parts take turns.

    Example: ./inv test --part lint --part unit
    """
    from countersign.console.config import settings_from
    from tests.run import names, run_parts

    settings = settings_from(context)
    if list:
        print("\n".join(names(part or [], settings)))  # noqa: T201  for scripts
        return
    run_parts(part or [], str(context.config.get("require") or ""), settings)
