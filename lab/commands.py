"""Tasks that span runtimes: the whole of what countersign does, on what this machine can carry."""

from __future__ import annotations

from invoke.context import Context

from admission import commands as admission
from containerd import commands as containerd
from countersign.console import output
from countersign.console.config import Settings, settings_from
from countersign.console.errors import MissingError, VerdictError
from countersign.console.task import task
from crio import commands as crio
from lab.trials import admission_tasks, containerd_tasks, crio_tasks


@task(
    help={
        "on": "only this place: host, kind, vagrant, or crio (a private CRI-O on this host); default: every place that"
        " this machine can carry",
        "json": "one JSON document on stdout: the places, and what came of each",
        "all-rows": "the whole matrix, which is usual on host, on every place",
    }
)
def e2e(context: Context, on: str = "", json: bool = False, all_rows: bool = False) -> None:
    """Set up, sign, admit, pull, start, and run every trial; exit code 1 if a verdict is not the expected one.

    Example: ./inv all.e2e --on host
    """
    import time
    from dataclasses import asdict

    from lab.trials.places import run_places, wanted

    start = time.monotonic()
    settings = settings_from(context)
    places = wanted(settings, on)
    try:
        results = run_places(settings, places, lambda place: _everything(context, place, all_rows))
    finally:
        _report(settings)
    if json:
        output.emit_json({"version": "countersign.e2e/v1", "places": [asdict(result) for result in results]})
    output.done("all.e2e", time.monotonic() - start)


@task(help={"json": "one JSON document on stdout"})
def consistency(context: Context, json: bool = False) -> None:
    """Compare what every engine said of every image, from the documents of earlier runs; exit code 1 if they clash.

    Example: ./inv all.consistency
    """
    from lab.report.model import documents
    from lab.trials.consistency import compare

    folder = settings_from(context).state / "report"
    found = documents(folder)
    if not found:
        raise MissingError("nothing has been run yet", where=str(folder), do="run ./inv crio.test or all.e2e")
    table = compare(found)
    if json:
        output.emit_json(table.as_json())
    rows = [(row.image, *row.cells, "; ".join((*row.problems, *filter(None, [row.reason])))) for row in table.rows]
    output.table(("image", *table.columns, ""), rows, title="what each engine says")
    if table.problems:
        raise VerdictError(
            f"{len(table.problems)} verdicts are not reviewed: {'; '.join(table.problems[:3])}",
            where="lab/trials/differences.yaml",
        )
    output.done("every verdict is the gate's, or a reviewed difference")


def _everything(context: Context, place: str, all_rows: bool) -> None:
    """Try all of a place; a machine has each runtime in turn, for it has one gate."""

    def on_containerd() -> None:
        containerd.setup(context, on=place, demo=True)
        containerd_tasks.sign(context, on=place)
        containerd_tasks.test(context, only=[], on=place, all_rows=all_rows)

    def on_crio(where: str) -> None:
        crio.configure(context, on=where, demo=True)
        crio_tasks.sign(context, on=where)
        crio_tasks.test(context, only=[], on=where, all_rows=all_rows)

    if place == "crio":
        on_crio("host")
    elif place == "vagrant":
        containerd.setup_vm(context, on=place)
        on_containerd()
        if settings_from(context).crio.binary:
            containerd.clean(context, on=place)
            crio.setup_vm(context, on=place)
            on_crio(place)
        else:
            output.skipped("CRI-O on the machine: CRIO_BIN names none")
    else:
        on_containerd()
        if place == "kind":
            _admission(context)
        else:
            _library(settings_from(context, place))


def _library(settings: Settings) -> None:
    """Ask CRI-O's engine as a library, for the table that lays all engines side by side."""
    from containerd.instance import instance
    from lab.demo import registries
    from lab.demo.lab import with_demo
    from lab.trials import lab, library, runner
    from lab.trials.containerd_place import ContainerdPlace

    ours = with_demo(settings, instance(settings.state))
    addresses = {name: ours.addition.urls[name] for name in registries.MAPPED}
    place = ContainerdPlace(ours, settings.policy)
    runner.run(settings, [library.series(settings, lambda: lab.of(settings, place), addresses)])


def _admission(context: Context) -> None:
    """Try the layer before the runtime's too, and take it away again: what pods see later is the gate's own word."""
    admission.setup(context)
    try:
        admission_tasks.test(context, only=[])
    finally:
        admission.clean(context)


def _report(settings: Settings) -> None:
    """Write the report of all that was run, also of a run that failed; where nothing was, there is none."""
    from lab.report.write import write

    try:
        page = write(settings.state)
    except MissingError as nothing:
        output.skipped(f"no report: {nothing}")
    else:
        output.say(f"report      {page}")
