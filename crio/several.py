"""Several machines at once: one that fails does not stop the others, and the end says which failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError, InfrastructureError
from crio.backend import open_place

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import StepResult
    from crio.backend import Backend

AT_ONCE = 8


@dataclass(frozen=True)
class Places:
    """One place or several, each by its name."""

    each: Sequence[Backend]

    def configure(self, *, keep: bool, plan: bool) -> dict[str, list[StepResult]]:
        """Configure all of them side by side; see `Backend.configure`."""
        return self._all("configured", lambda place: place.configure(keep=keep, plan=plan))

    def clean(self, *, plan: bool) -> dict[str, list[StepResult]]:
        """Clean all of them; see `Backend.clean`."""
        return self._all("cleaned", lambda place: place.clean(plan=plan))

    def _all(self, done: str, work: Callable[[Backend], Any]) -> dict[str, Any]:
        """Return place → what ``work`` returned.

        Raises:
            CountersignError: of the only place.
            InfrastructureError: some of several failed; the text names them.
        """
        if len(self.each) == 1:
            return {self.each[0].settings.node: work(self.each[0])}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = {place.settings.node: pool.submit(work, place) for place in self.each}
        answers: dict[str, Any] = {}
        failures: dict[str, CountersignError] = {}
        for name, future in futures.items():
            try:
                answers[name] = future.result()
            except CountersignError as error:  # noqa: PERF203 - one failure stops nobody
                failures[name] = error
        _show(done, list(futures), failures)
        return answers


def open_places(settings: Settings, *, demo: bool = False) -> Places:
    """Return the configured places, whose names have commas between them; ``demo`` as in `open_place`."""
    names = [name.strip() for name in settings.node.split(",") if name.strip()] or [settings.node]
    return Places([open_place(replace(settings, node=name), demo=demo) for name in dict.fromkeys(names)])


def _show(done: str, names: Sequence[str], failures: Mapping[str, CountersignError]) -> None:
    from countersign.console import output

    rows = [(name, f"✗ {failures[name]}" if name in failures else f"✓ {done}") for name in names]
    output.table(("machine", ""), rows)
    if failures:
        raise InfrastructureError(
            f"{len(failures)} of {len(names)} machines were not {done}", where=", ".join(failures), do="see above"
        )
