"""Tasks: evidence to all nodes of a place, judged by each one's own policy (``evidence.import``, ``.push``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

_ON = "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)"
_RUNTIME = "containerd (default) or crio: which of them was set up there"
_JSON = "one JSON document on stdout"


@task(
    name="import",
    help={"bundle": "the file that evidence.export made", "on": _ON, "runtime": _RUNTIME, "json": _JSON},
)
def bring_in(context: Context, bundle: str = "", on: str = "", runtime: str = "", json: bool = False) -> None:
    """Keep evidence on every node of a place, offline; what a node's own policy does not allow by it, it refuses.

    Example: ./inv evidence.import --bundle evidence.tar --on host
    """
    from countersign.console.errors import UsageError

    path = Path(bundle).expanduser()
    if not bundle or not path.is_file():
        raise UsageError(f"no such file: {bundle!r}", where="--bundle", expected="what evidence.export made")
    _bring(context, path, on, runtime, json=json)


@task(
    iterable=["image"],
    help={
        "image": "an image: NAME:TAG or NAME@DIGEST (may be given more than once)",
        "on": _ON,
        "runtime": _RUNTIME,
        "json": _JSON,
    },
)
def push(context: Context, image: list[str], on: str = "", runtime: str = "", json: bool = False) -> None:
    """Bring evidence of images to every node of a place ahead of time: exported here, judged and kept there.

    Example: ./inv evidence.push --image registry.example/app:v1 --on kind
    """
    import tempfile

    from countersign.console.config import settings_from
    from countersign.console.errors import UsageError
    from countersign.oci.access import registry
    from countersign.oci.reference import parse
    from signing import evidence

    if not image:
        raise UsageError("no image", expected="--image NAME", do="see --help")
    refs = [parse(one) for one in image]
    client = registry(settings_from(context, on or None, room=runtime))
    with tempfile.TemporaryDirectory(prefix="countersign-") as work:
        path = Path(work) / "evidence.tar"
        evidence.write(path, lambda file: evidence.export(client, refs, file))
        _bring(context, path, on, runtime, json=json)


def _bring(context: Context, path: Path, on: str, runtime: str, *, json: bool) -> None:
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import VerdictError
    from rollout.evidence import bring
    from rollout.places import targets

    settings = settings_from(context, on or None, room=runtime)
    found = bring(targets(settings, settings.policy), path)
    for node, images in found.items():
        for one in images:
            mark = output.done if one["allow"] else output.failed
            mark(f"{node}: {one['message']}" + (f" ({one['kept']} entries kept)" if one["allow"] else ""))
    if json:
        nodes = [{"node": node, "images": images} for node, images in found.items()]
        output.emit_json({"version": "countersign.evidence-brought/v1", "nodes": nodes})
    refused = sum(not one["allow"] for images in found.values() for one in images)
    if refused:
        raise VerdictError(f"{refused} images were refused, and nothing of theirs kept", do="see policy.diff there")
