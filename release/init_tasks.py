"""Task: begin to release a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task
from release.options import JSON

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "project": "the project's release.yaml, which need not be there yet",
        "source": "its repository, https://github.com/OWNER/NAME (default: that of git's remote origin)",
        "force": "write over workflow and policies that are there and differ; a release.yaml that is there is kept",
        "plan": "say what would be written, and write nothing",
        "json": JSON,
    }
)
def init(
    context: Context, project: str = "", source: str = "", force: bool = False, plan: bool = False, json: bool = False
) -> None:
    """Write release.yaml, the workflow that releases, and policies for those who run the images.

    What is released is found in the repository (Go programs, a chart); look through release.yaml before you commit it.
    Once it is there it is kept, and workflow and policies follow from it.

    Example: ./inv release.init --project ~/src/app/release.yaml --plan
    """
    from countersign.console import output
    from countersign.console.config import ROOT, settings_from
    from countersign.console.errors import UsageError
    from release import git
    from release.init import write
    from release.load import load

    if not project:
        raise UsageError("no project", expected="--project PATH/release.yaml", do="see --help")
    path = Path(project).expanduser().absolute()
    path = path / "release.yaml" if path.is_dir() else path
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=str(path.parent), do="name a git repository's")
    files, notes = write.plan(path, source, git.head(ROOT).id, settings_from(context))
    wrote = write.put(path.parent, files, force=force, plan=plan)
    for name in files:
        if name not in wrote:
            output.skipped(name)
        elif plan:
            output.say(f"would: write {name}")
        else:
            output.done(name)
    for line in notes:
        output.warn(line)
    if not plan:
        load(path)
        output.say(f"look through {path.name}, commit, and try it here: ./inv release.all --project {path} --plan")
    if json:
        document = {"folder": str(path.parent), "files": list(files), "written": [] if plan else wrote}
        output.emit_json({"version": "countersign.release-init/v1", "plan": plan, **document})
