"""The tasks that every runtime has: its room names them, and says what is its own in their help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.console.config import Settings
    from countersign.enforcement.several import Places
    from countersign.runtimes.place import Place

JSON = "one JSON document on stdout"
PLAN = "list the steps with a diff of each file, and change nothing"
WAVE = "how many of several machines are begun together; the next only when none of them failed (default: all)"
KEEP = "keep what there is when a step fails"


@dataclass(frozen=True)
class Words:
    """What the help of a runtime's tasks says of it alone.

    Attributes:
        verb: the task that sets it up.
        about: what that does.
        on: the places that there are.
        has_demo: those of them that have the demo anyway.
        logs: the logs that there are.
    """

    verb: str
    about: str
    on: str
    has_demo: str
    logs: str


class TaskSet(NamedTuple):
    """Tasks of one runtime."""

    set_up: Any
    status: Any
    logs: Any
    clean: Any


def task_set(room: str, words: Words, open_place: Callable[[Settings, bool], Place]) -> TaskSet:
    """Return the tasks of a runtime.

    Args:
        room: its name.
        words: its own.
        open_place: opens the place that settings name; the second argument asks for the demo on a machine over SSH.
    """

    def places(context: Context, on: str, *, demo: bool = False) -> Places[Place]:
        from countersign.console.config import settings_from
        from countersign.runtimes import verbs

        return verbs.open_places(settings_from(context, on or None, room=room), lambda one: open_place(one, demo))

    def made(body: Callable[..., None], name: str, options: Mapping[str, str]) -> Any:
        about = (body.__doc__ or "").format(room=room, verb=words.verb, about=words.about)
        body.__name__, body.__doc__ = name, about
        return task(help={"on": words.on, **options})(body)

    def set_up(
        context: Context,
        on: str = "",
        demo: bool = False,
        wave: int = 0,
        keep: bool = False,
        plan: bool = False,
        json: bool = False,
    ) -> None:
        """{about}; prove that nothing runs unseen.

        Example: ./inv {room}.{verb} --on ssh://root@192.0.2.7
        """
        from countersign.runtimes import verbs

        verbs.set_up(places(context, on, demo=demo), keep=keep, plan=plan, json=json, wave=wave)

    def status(context: Context, on: str = "", json: bool = False) -> None:
        """Say whether every node enforces, now; exit code 4 when one does not: what was found, wanted, and fixes it.

        Example: ./inv {room}.status --json
        """
        from countersign.runtimes import verbs

        verbs.status(places(context, on), json=json)

    def logs(context: Context, on: str = "", name: str = room, lines: int = 40) -> None:
        """Print the end of a log on stdout.

        Example: ./inv {room}.logs --name verdicts --lines 5
        """
        from countersign.runtimes import verbs

        verbs.logs(places(context, on), name, lines)

    def clean(context: Context, on: str = "", plan: bool = False) -> None:
        """Take it all away again, so that a machine that is not ours is as it was before; keys stay.

        Example: ./inv {room}.clean
        """
        from countersign.runtimes import verbs

        verbs.clean(places(context, on), plan=plan)

    demo = f"also give a machine over SSH the demo's registries and key ({words.has_demo} anyway)"
    return TaskSet(
        made(set_up, words.verb, {"demo": demo, "wave": WAVE, "keep": KEEP, "plan": PLAN, "json": JSON}),
        made(status, "status", {"json": JSON}),
        made(logs, "logs", {"name": words.logs, "lines": "how many lines from the end"}),
        made(clean, "clean", {"plan": PLAN}),
    )
