"""Tasks: verify a release as a stranger would, and publish one that verifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task
from release import opening, showing
from release.options import JSON, PROJECT, TRUSTED, VERSION

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "version": VERSION,
        "folder": "the release's files (default: where release.build makes them)",
        "key": TRUSTED,
        "project": PROJECT,
        "unpublished": "tags need not be there yet",
        "json": JSON,
    }
)
def verify(
    context: Context,
    version: str = "",
    folder: str = "",
    key: str = "",
    project: str = "",
    unpublished: bool = False,
    json: bool = False,
) -> None:
    """Verify a release as a stranger would: files, signatures, attestations, checksums, images, tags.

    Exit code 1 if any is refused. The plain commands that do the same are printed.

    Example: ./inv release.verify --folder ~/Downloads/countersign-1.2.3 --key release.pub
    """
    showing.verified(context, opening.project(project), version, folder, key, tags=not unpublished, json=json)


@task(
    help={
        "version": VERSION,
        "github": "also a release on GitHub, with GITHUB_TOKEN (--no-github: only the images' tags)",
        "key": TRUSTED,
        "project": PROJECT,
        "plan": "verify it and say what would be done, and do nothing",
        "json": JSON,
    }
)
def publish(
    context: Context,
    version: str = "",
    github: bool = True,
    key: str = "",
    project: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Publish a release, if it verifies: draft, files, tags, then all at once; what fails leaves nothing behind.

    Example: ./inv release.publish --version 1.2.3
    """
    import os

    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.oci.access import registry
    from countersign.oci.proxy import from_environment
    from release import notes, verifying
    from release import publish as publishing
    from release.github import of

    found, settings = opening.project(project), settings_from(context)
    environ = os.environ
    api = environ.get("GITHUB_API_URL") or "https://api.github.com"
    target = of(found.source, environ.get("GITHUB_TOKEN", ""), api, from_environment(environ)) if github else None
    trusted, place = verifying.trusted(found, key), verifying.place(settings, found, version, "")
    verified = verifying.verify(settings, found, version, place, trusted, tags=False)
    showing.say(verified)
    release = verified.check()
    done: list[str] = []

    def tell(line: str) -> None:
        done.append(line)
        output.done(line)

    def again() -> None:
        verifying.verify(settings, found, version, place, trusted, tags=True).check()

    if plan:
        for line in publishing.plan(release, target):
            output.say(f"would: {line}")
    else:
        files = sorted(place.files.iterdir())
        text = notes.write(found, release, trusted)
        publishing.publish(registry(settings), release, files, text, target, again, tell)
    if json:
        output.emit_json({"version": "countersign.release-published/v1", "plan": plan, "done": done})
