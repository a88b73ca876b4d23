"""Task: show what hangs on images, by whom, and what a policy's roots say of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from invoke.context import Context

from countersign.console.config import Settings, settings_from
from countersign.console.errors import CountersignError, UsageError
from countersign.console.output import Branch, emit_json, say
from countersign.console.task import task


@task(
    iterable=["image"],
    help={
        "image": "an image: NAME:TAG or NAME@DIGEST (may be given more than once)",
        "policy": "policy.yaml whose roots are asked (default: the configuration's, if it is there)",
        "layout": "image layout that has the image and what hangs on it; no registry is asked",
        "explain-engines": "say which engines can read each, and what to add so that the rest can",
        "json": "one JSON document on stdout",
    },
)
def inspect(
    context: Context,
    image: list[str],
    policy: str = "",
    layout: str = "",
    explain_engines: bool = False,
    json: bool = False,
) -> None:
    """Show every signature and attestation on images: who, when, until when, and what each root says.

    What a signature says of itself is checked only where a root takes it (✓). signing.verify decides.
    Example: ./inv signing.inspect --image registry.example/app:v1
    """
    from signing import engines
    from signing import inspection as inspecting
    from signing import verify as verifying

    settings = settings_from(context)
    if not image:
        raise UsageError("no image", expected="--image NAME", do="see --help")
    rendered = _policy(settings, policy)
    access = verifying.access(settings, layout)
    program = verifying.program(settings)
    found = [inspecting.inspect(program, one, rendered, access) for one in image]
    if json:
        images = [{**each, "engines": engines.as_json(engines.explain(each))} for each in found]
        emit_json({"version": "countersign.inspections/v1", "images": images if explain_engines else found})
        return
    for each in found:
        scope = f" ({each['scope']}: {each['rule']})" if each.get("scope") else ""
        say(f"{each['image']}{scope}")
        _show(inspecting.drawn(each), "  ")
        if explain_engines:
            say("  engines:")
            _show(engines.drawn(engines.explain(each)), "    ")


def _show(branches: Iterable[Branch], indent: str) -> None:
    """Show a tree as indented lines, whole: what is wrong with a signature fits no terminal."""
    for line, below in branches:
        say(f"{indent}{line}")
        _show(below, f"{indent}  ")


def _policy(settings: Settings, named: str) -> bytes | None:
    """Return the policy whose roots are asked: a named one has to be good, the configuration's may be missing."""
    from signing.inspection import rendered

    if named:
        return rendered(Path(named).expanduser())
    if not settings.policy.is_file():
        return None
    try:
        return rendered(settings.policy)
    except CountersignError as error:
        say(f"no policy is asked: {error}")
        return None
