"""Task: copy an image to another registry with all that hangs on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from countersign.console import output
from countersign.console.config import Settings, settings_from
from countersign.console.errors import UsageError, VerdictError
from countersign.console.task import task

if TYPE_CHECKING:
    from signing.gather import Source, Stock
    from signing.places import Place
    from signing.relocate import Target
    from signing.verify import Verdict

    Judge = Callable[[Stock, Target], Verdict | None]

_FORM = "REGISTRY/NAME:TAG, NAME@DIGEST, oci:DIR[:TAG] or oci-archive:FILE[:TAG]"


@task(
    iterable=["key"],
    help={
        "source": f"what to take: {_FORM}",
        "to": "where to, in the same forms; a tag that is left out is the source's",
        "policy": "the destination's policy, rendered (policy.render), by which it is verified there",
        "key": "go by a public key instead; any of several (default: keys/cosign.pub of the configuration)",
        "plan": "say what would be taken, and what will not count there; change nothing",
        "json": "one JSON document on stdout",
    },
)
def relocate(
    context: Context,
    key: list[str],
    source: str = "",
    to: str = "",
    policy: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Copy an image to another registry with signatures, attestations and all that hangs on it; verify; tag it last.

    Example: ./inv signing.relocate --source registry.example/app:v1 --to mirror.example/app:v1
    """
    from countersign.oci.access import registry
    from signing import places
    from signing.gather import gather

    settings = settings_from(context)
    if policy and key:
        raise UsageError("got both", where="--key, --policy", expected="one of them")
    here = places.read(source, "--source")
    there = places.aimed(here, places.read(to, "--to"))
    places.check(there)
    judge = None if plan else _judge(settings, there if there.name else here, policy, key)
    client = registry(settings)
    origin, reference = places.origin(here, client)
    with output.progress(f"looking at {here}") as far:
        far("its platforms, signatures and other referrers")
        stock = gather(origin, reference)
    document = _announce(stock, here, there)
    if judge is None:
        output.say(f"plan: {len(stock.parts)} blobs of {stock.size / (1 << 20):.1f} MiB, nothing was changed")
    else:
        with places.destination(there, client) as target:
            document |= _move(stock, origin, target, there, judge)
            if not document["tagged"]:
                raise _refused(document, there, json=json)
        output.done(f"{there} is {stock.root.digest}")
    if json:
        output.emit_json(document)


def _move(stock: Stock, origin: Source, target: Target, there: Place, judge: Judge) -> dict[str, Any]:
    """Copy, judge, tag; return what the document says of it."""
    from signing.relocate import carry

    with output.progress(f"copying to {there}") as far:
        carried = carry(stock, origin, target, far)
    output.say(
        f"blobs: {carried.copied} copied ({carried.sent / (1 << 20):.1f} MiB), {carried.mounted} mounted, "
        f"{carried.present} were there"
    )
    verdict = judge(stock, target)
    good = verdict is None or verdict["allow"]
    if verdict is None:
        output.say("not judged: files have no name that a policy could go by; every digest was checked")
    else:
        (output.done if good else output.failed)(verdict["message"])
    if good and there.tag:
        content, what = stock.manifests[stock.root.digest]
        target.put_manifest(there.tag, content, what.media_type)
    return {"blobs": vars(carried), "verdict": verdict, "tagged": good}


def _refused(document: dict[str, Any], there: Place, *, json: bool) -> VerdictError:
    """Return the error of an image that is not good where it has arrived."""
    if json:
        output.emit_json(document)
    do = f"sign it {'there by its digest' if there.name else 'first'}, and relocate it again"
    return VerdictError("the gate's engine refuses it there, so it got no tag", where=str(there), do=do)


def _judge(settings: Settings, place: Place, policy: str, key: list[str]) -> Judge:
    """Return what has the gate's engine say whether an image is good where it has arrived.

    It says None from files to files, where no name says what the image has to satisfy.
    """
    from signing import places
    from signing import verify as verifying

    going_by, access = verifying.going_by(settings, policy, key), verifying.access(settings)
    program = verifying.program(settings)
    verifying.look_at(program, policy, key)

    def judged(stock: Stock, target: Target) -> Verdict | None:
        folder = places.folder_of(target)
        there = verifying.Access(layout=folder) if folder else access
        name = places.named(place, stock.root.digest)
        return verifying.verify(program, name, going_by, there) if place.name else None

    return judged


def _foreign(stock: Stock, there: Place) -> list[dict[str, Any]]:
    """Return which attachments name another repository than the one that the image goes to."""
    if not there.name:
        return []
    found = []
    for digest, names in stock.names.items():
        others = [name for name in names if name != there.name]
        if others:
            found.append({"digest": digest, "names": others, "ours": there.name in names})
    return found


def _announce(stock: Stock, here: Place, there: Place) -> dict[str, Any]:
    """Say what is taken, and what of it will not count; return it as a document."""
    what = "index" if stock.root.is_index else "manifest"
    referrers = sum(map(len, stock.referrers.values()))
    output.say(
        f"{what} {stock.root.digest}: {len(stock.manifests)} manifests, {referrers} referrers, "
        f"{len(stock.tags)} tags of attachments"
    )
    foreign = _foreign(stock, there)
    for one in foreign:
        output.warn(f"attachments on {one['digest']} name {', '.join(one['names'])}: they do not count as {there.name}")
    if any(not one["ours"] for one in foreign):
        output.say(
            "  bundles and Notation signatures name no repository and go on counting; for attachments sign again "
            f"there: ./inv signing.sign --image {there.name}@{stock.root.digest} --format attachment"
        )
    return {
        "version": "countersign.relocated/v1",
        "source": str(here),
        "to": str(there),
        "digest": stock.root.digest,
        "manifests": len(stock.manifests),
        "referrers": referrers,
        "attachments": sorted(stock.tags),
        "willNotCount": foreign,
    }
