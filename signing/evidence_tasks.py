"""Task: evidence of images into a file (it becomes ``evidence.export``)."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from countersign.console import output
from countersign.console.config import settings_from
from countersign.console.errors import UsageError
from countersign.console.task import task


@task(
    iterable=["image"],
    help={
        "image": "an image: NAME:TAG or NAME@DIGEST (may be given more than once)",
        "out": "the file to make",
        "json": "one JSON document on stdout",
    },
)
def export(context: Context, image: list[str], out: str = "evidence.tar", json: bool = False) -> None:
    """Write what signs images into a file, without the images, for nodes that reach no registry.

    Example: ./inv evidence.export --image registry.example/app:v1 --out evidence.tar
    """
    from countersign.oci.access import registry
    from countersign.oci.reference import parse
    from signing import evidence

    if not image:
        raise UsageError("no image", expected="--image NAME", do="see --help")
    refs = [parse(one) for one in image]
    client = registry(settings_from(context))
    path = Path(out).expanduser()
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
    if json:
        images = [{"image": f"{one.name}@{one.digest}", "signatures": one.signatures} for one in done]
        output.emit_json({"version": "countersign.evidence-exported/v1", "file": str(path), "images": images})
