"""Tasks: evidence of images in a file, and on all nodes of a place, judged by each one's own policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

_ON = "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)"
_RUNTIME = "containerd (default) or crio: which of them was set up there"
_JSON = "one JSON document on stdout"


@task(
    iterable=["image"],
    help={
        "image": "an image: NAME:TAG or NAME@DIGEST (more than one may be given); with --on NAME@DIGEST, NAME or none",
        "out": "the file to make",
        "on": "instead of registries, what the nodes of this place keep: host, kind, vagrant or ssh://USER@HOST",
        "runtime": _RUNTIME,
        "json": _JSON,
    },
)
def export(
    context: Context,
    image: list[str],
    out: str = "evidence.tar",
    on: str = "",
    runtime: str = "",
    json: bool = False,
) -> None:
    """Write what signs images into a file, without the images, for nodes that reach no registry.

    Example: ./inv evidence.export --image registry.example/app:v1 --out evidence.tar
    """
    from countersign.console import output
    from countersign.console.errors import UsageError

    if not image and not on:
        raise UsageError("no image", expected="--image NAME", do="see --help")
    if runtime and not on:
        raise UsageError("goes with --on", where="--runtime", do="name the place whose nodes are asked")
    path = Path(out).expanduser()
    images = _of_nodes(context, image, path, on, runtime) if on else _of_registries(context, image, path)
    if json:
        output.emit_json({"version": "countersign.evidence-exported/v1", "file": str(path), "images": images})


def _of_registries(context: Context, image: list[str], path: Path) -> list[dict[str, Any]]:
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.oci.access import registry
    from countersign.oci.reference import parse
    from signing import evidence

    refs = [parse(one) for one in image]
    client = registry(settings_from(context))
    with output.progress(f"collecting evidence into {path}") as far:
        done = evidence.write(path, lambda file: evidence.export(client, refs, file, far))
    for one in done:
        output.say(f"{one.name}@{one.digest}: {one.signatures} tags of attachments and referrers")
        if one.left_out:
            output.warn(
                f"{one.left_out} blobs of over 4 MiB were left out: a rule that asks for them refuses the image"
            )
    unsigned = [one for one in done if not one.signatures]
    if unsigned:
        output.warn(
            f"nothing hangs on {', '.join(one.name for one in unsigned)}: a rule that asks for signatures refuses"
        )
    return [{"image": f"{one.name}@{one.digest}", "signatures": one.signatures} for one in done]


def _of_nodes(context: Context, image: list[str], path: Path, on: str, runtime: str) -> list[dict[str, Any]]:
    from countersign.console import output
    from countersign.console.config import settings_from
    from rollout.evidence import take
    from rollout.places import targets
    from signing import evidence

    settings = settings_from(context, on, room=runtime)
    with output.progress(f"collecting evidence into {path}") as far:
        done = evidence.write(path, lambda file: take(targets(settings, settings.policy), image, file, far))
    for node in done:
        for one in node.images:
            output.say(f"{node.name}: {one['image']}: {one['signatures']} signatures and attestations")
        for left in node.left_out:
            output.warn(f"{node.name}: {left} was left out: a rule that asks for it refuses the image")
    return [{"node": node.name, **one} for node in done for one in node.images]


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
