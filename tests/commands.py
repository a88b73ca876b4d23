"""The task that runs the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    name="test",
    iterable=["part"],
    help={"part": "lint, types, go, unit, browser, interop, e2e or kind; repeatable (default: all)"},
)
def run_tests(context: Context, part: list[str] | None = None) -> None:
    """Test this checkout: style, types, Go, unit, cosign, end to end.

    What cannot run here is skipped and says why; the configuration's `require`
    (a list of parts, or all) makes that a failure.

    Example: ./inv test --part lint --part unit
    """
    from console.config import settings_from
    from tests.run import run_parts

    run_parts(part or [], str(context.config.get("require") or ""), settings_from(context))
