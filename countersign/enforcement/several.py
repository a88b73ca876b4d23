"""Several machines at once: one that fails does not stop the others, and the end says which failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from countersign.console.config import record_place, recorded_place
from countersign.console.errors import CountersignError, InfrastructureError, UsageError

if TYPE_CHECKING:
    from countersign.console.config import Settings


class Place(Protocol):
    """A runtime at one place."""

    @property
    def settings(self) -> Settings:
        """The configuration, with this place alone."""


PlaceT = TypeVar("PlaceT", bound=Place)
ResultT = TypeVar("ResultT")
AT_ONCE = 8


@dataclass(frozen=True)
class Came(Generic[ResultT]):
    """What came of several machines.

    Attributes:
        names: of all, in the order in which they were named; who is neither below was not begun.
        answers: of those where it was done.
        failures: of those where it failed.
        seconds: how long each of both took.
        interrupted: the user stopped it: those that were begun have ended.
    """

    names: Sequence[str]
    answers: dict[str, ResultT]
    failures: dict[str, CountersignError]
    seconds: dict[str, float]
    interrupted: bool = False

    def machines(self) -> list[dict[str, object]]:
        """Return one JSON value for each machine, in order."""
        found: list[dict[str, object]] = []
        for name in self.names:
            state = "done" if name in self.answers else "failed" if name in self.failures else "not begun"
            one: dict[str, object] = {"place": name, "state": state}
            if name in self.seconds:
                one["seconds"] = round(self.seconds[name], 3)
            if name in self.failures:
                one["error"] = str(self.failures[name])
            found.append(one)
        return found


@dataclass(frozen=True)
class Places(Generic[PlaceT]):
    """One place or several.

    Attributes:
        each: in the order in which they were named.
        room: the runtime: its tasks remember their place under it.
    """

    each: Sequence[PlaceT]
    room: str

    def set_up(
        self,
        done: str,
        work: Callable[[PlaceT], ResultT],
        *,
        plan: bool,
        wave: int = 0,
        tell: Callable[[Came[ResultT]], None] | None = None,
    ) -> dict[str, ResultT]:
        """Have all of them set up side by side; the verbs after it then mean those that were.

        Args:
            done: what was done then, for people, such as ``configured``.
            work: sets one up.
            plan: nothing is changed.
            wave: how many are begun together; the next are begun only when none of these failed. 0 begins them all.
            tell: is told what came of each, also where some failed.

        Returns:
            Place → what ``work`` returned.

        Raises:
            CountersignError: of the only place.
            InfrastructureError: some of several failed; the text names them.
            KeyboardInterrupt: the user stopped it, and what was begun has ended.
        """
        came = self._each(work, wave)
        if came.answers and not plan:
            record_place(self.each[0].settings.state, ",".join(came.answers), self.room)
        if tell:
            tell(came)
        self._show(done, came)
        return came.answers

    def cleaned(self, work: Callable[[PlaceT], ResultT], *, plan: bool) -> dict[str, ResultT]:
        """Have all of them cleaned side by side, and forget them together; see `set_up`."""
        came = self._each(work)
        self._show("cleaned", came)
        state = self.each[0].settings.state
        if not plan and recorded_place(state, self.room) == ",".join(came.answers):
            record_place(state, "", self.room)
        return came.answers

    def _each(self, work: Callable[[PlaceT], ResultT], wave: int = 0) -> Came[ResultT]:
        names = [place.settings.node for place in self.each]
        came: Came[ResultT] = Came(names, {}, {}, {})

        def timed(place: PlaceT) -> None:
            name, began = place.settings.node, time.monotonic()
            try:
                came.answers[name] = work(place)
            except CountersignError as error:
                if len(names) == 1:
                    raise
                came.failures[name] = error
            finally:
                came.seconds[name] = time.monotonic() - began

        if len(names) == 1:
            timed(self.each[0])
            return came
        size = wave or len(names)
        interrupted = False
        for first in range(0, len(names), size):
            if came.failures or interrupted:
                break
            interrupted = _begun(timed, self.each[first : first + size])
        answers = {name: came.answers[name] for name in names if name in came.answers}
        failures = {name: came.failures[name] for name in names if name in came.failures}
        return replace(came, answers=answers, failures=failures, interrupted=interrupted)

    def _show(self, done: str, came: Came[Any]) -> None:
        from countersign.console import output

        names, answers, failures = came.names, came.answers, came.failures
        if len(names) > 1:
            said = dict.fromkeys(answers, f"✓ {done}") | {name: f"✗ {why}" for name, why in failures.items()}
            output.table(("machine", ""), [(name, said.get(name, "- not begun")) for name in names])
        if failures:
            left = len(names) - len(answers) - len(failures)
            what = f"{len(failures)} of {len(names)} machines were not {done}" + (f", {left} not begun" if left else "")
            do = "see above; the same command goes on with the rest" if left else "see above"
            raise InfrastructureError(what, where=", ".join(failures), do=do)
        if came.interrupted:
            raise KeyboardInterrupt


def _begun(work: Callable[[PlaceT], None], places: Sequence[PlaceT]) -> bool:
    """Do it at some places side by side; where the user stops that, begin no other, and leave none half-done.

    Returns:
        whether the user stopped it.
    """
    from countersign.console import output

    futures: list[Future[None]] = []
    interrupted = False
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            futures.extend(pool.submit(work, place) for place in places)
            wait(futures)
        except KeyboardInterrupt:
            interrupted = True
            output.warn("stopping: what was begun is brought to its end first")
            pool.shutdown(cancel_futures=True)
    for future in futures:
        if not future.cancelled():
            future.result()
    return interrupted


def opened(settings: Settings, room: str, open_place: Callable[[Settings], PlaceT]) -> Places[PlaceT]:
    """Return the configured places, whose names have commas between them; each is opened once.

    Raises:
        UsageError: two names are of one machine, which would be changed twice at the same moment.
    """
    names = [name.strip() for name in settings.node.split(",") if name.strip()] or [settings.node]
    each = list(dict.fromkeys(names))
    if len(each) > 1:
        _distinct(each)
    return Places([open_place(replace(settings, node=name)) for name in each], room)


def _distinct(names: Sequence[str]) -> None:
    from countersign.nodes.connect import address

    known: dict[tuple[str, ...], str] = {}
    for name in names:
        where = address(name) if name.startswith("ssh://") else (name,)
        if where in known:
            raise UsageError(f"{known[where]} and {name} are one machine", where="node", do="name it once")
        known[where] = name
