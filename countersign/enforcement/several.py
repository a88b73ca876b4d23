"""Several machines at once: one that fails does not stop the others, and the end says which failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from countersign.console.config import record_place, recorded_place
from countersign.console.errors import CountersignError, InfrastructureError

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
class Places(Generic[PlaceT]):
    """One place or several.

    Attributes:
        each: in the order in which they were named.
        room: the runtime: its tasks remember their place under it.
    """

    each: Sequence[PlaceT]
    room: str

    def set_up(self, done: str, work: Callable[[PlaceT], ResultT], *, plan: bool, wave: int = 0) -> dict[str, ResultT]:
        """Have all of them set up side by side; the verbs after it then mean those that were.

        Args:
            done: what was done then, for people, such as ``configured``.
            work: sets one up.
            plan: nothing is changed.
            wave: how many are begun together; the next are begun only when none of these failed. 0 begins them all.

        Returns:
            Place → what ``work`` returned.

        Raises:
            CountersignError: of the only place.
            InfrastructureError: some of several failed; the text names them.
        """
        answers, failures = self._each(work, wave)
        if answers and not plan:
            record_place(self.each[0].settings.state, ",".join(answers), self.room)
        self._show(done, answers, failures)
        return answers

    def cleaned(self, work: Callable[[PlaceT], ResultT], *, plan: bool) -> dict[str, ResultT]:
        """Have all of them cleaned side by side, and forget them together; see `set_up`."""
        answers, failures = self._each(work)
        self._show("cleaned", answers, failures)
        state = self.each[0].settings.state
        if not plan and recorded_place(state, self.room) == ",".join(answers):
            record_place(state, "", self.room)
        return answers

    def _each(
        self, work: Callable[[PlaceT], ResultT], wave: int = 0
    ) -> tuple[dict[str, ResultT], dict[str, CountersignError]]:
        if len(self.each) == 1:
            return {self.each[0].settings.node: work(self.each[0])}, {}
        answers: dict[str, ResultT] = {}
        failures: dict[str, CountersignError] = {}
        size = wave or len(self.each)
        for first in range(0, len(self.each), size):
            if failures:
                break
            with ThreadPoolExecutor(AT_ONCE) as pool:
                futures = {place.settings.node: pool.submit(work, place) for place in self.each[first : first + size]}
            for name, future in futures.items():
                try:
                    answers[name] = future.result()
                except CountersignError as error:  # noqa: PERF203 - one failure stops nobody of its wave
                    failures[name] = error
        return answers, failures

    def _show(self, done: str, answers: Mapping[str, object], failures: Mapping[str, CountersignError]) -> None:
        from countersign.console import output

        names = [place.settings.node for place in self.each]
        if len(names) > 1:
            said = dict.fromkeys(answers, f"✓ {done}") | {name: f"✗ {why}" for name, why in failures.items()}
            output.table(("machine", ""), [(name, said.get(name, "- not begun")) for name in names])
        if failures:
            left = len(names) - len(answers) - len(failures)
            what = f"{len(failures)} of {len(names)} machines were not {done}" + (f", {left} not begun" if left else "")
            do = "see above; the same command goes on with the rest" if left else "see above"
            raise InfrastructureError(what, where=", ".join(failures), do=do)


def opened(settings: Settings, room: str, open_place: Callable[[Settings], PlaceT]) -> Places[PlaceT]:
    """Return the configured places, whose names have commas between them; each is opened once."""
    names = [name.strip() for name in settings.node.split(",") if name.strip()] or [settings.node]
    return Places([open_place(replace(settings, node=name)) for name in dict.fromkeys(names)], room)
