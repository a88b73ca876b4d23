"""Task: from an old key to a new one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from invoke.context import Context

from countersign.console import output
from countersign.console.config import Settings, settings_from
from countersign.console.errors import CountersignError, InfrastructureError, UsageError, VerdictError
from countersign.console.task import task
from signing.signers import KEY_HELP, private

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey, PublicKey
    from signing.rotate import Holds
    from signing.rotated import Turn


@task(
    iterable=["image", "repository"],
    help={
        "old": "the old key's public half, a file",
        "key": KEY_HELP.replace("private key", "the new private key", 1),
        "image": "an image: NAME:TAG or NAME@DIGEST (may be given more than once)",
        "repository": "a repository, HOST/ (a registry's whole catalog), or @FILE: one of these or an image a line "
        "(may be given more than once)",
        "plan": "find what the old key signed, show the policy's difference, and change nothing",
        "json": "one JSON document on stdout",
    },
)
def rotate(
    context: Context,
    image: list[str],
    repository: list[str],
    old: str = "",
    key: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Go from an old key to a new one, in policy.yaml and in registries; run it again to go on, and to end it.

    The first run puts the new key beside the old one and signs; one after it, which finds nothing left, takes the old
    one out. Exit code 1 while something is left.

    Example: ./inv signing.rotate --old keys/old.pub --key keys/new.key --repository registry.example/app
    """
    from countersign.keys.pair import load_public
    from signing import rotate as rotating
    from signing import rotated

    settings = settings_from(context)
    if not old or not (image or repository):
        raise UsageError("nothing to rotate", expected="--old FILE, and --image or --repository", do="see --help")
    before, new = load_public(Path(old).expanduser()), private(settings, key)()
    if before.fingerprint == new.public.fingerprint:
        raise UsageError("the old key and the new one are the same", where="--old, --key")
    turn = rotated.read(settings.policy, before, new.public)
    difference = []
    if turn.stage == "add":
        difference = rotated.add(turn, key or str(settings.keys / "cosign.key"), plan=plan)
    states = _each(settings, image, repository, before, new, plan=plan)
    left = sum(one["state"] not in rotating.DONE for one in states)
    kept: list[str] = []
    if turn.stage == "remove" and not left and not (kept := _kept(turn, repository)):
        difference = rotated.remove(turn, plan=plan)
    for line in [": ".join(filter(None, (one["name"], one["state"], one.get("why", "")))) for one in states]:
        output.say(line)
    for line in difference:
        output.say(line)
    if json:
        keys = {"old": before.fingerprint, "new": new.public.fingerprint}
        policy = {"policy": str(settings.policy), "amended": bool(difference) and not plan, "kept": kept}
        emitted = {**keys, "plan": plan, "left": left, **policy, "images": states}
        output.emit_json({"version": "countersign.rotated/v1", **emitted})
    if plan:
        output.say(f"plan: {left} of {len(states)} to be signed, nothing was changed")
    elif left:
        raise VerdictError(f"{left} of {len(states)} images are left", do="run it again when what is named is fixed")
    else:
        output.done(_next(turn, old, kept))


def _next(turn: Turn, old: str, kept: list[str]) -> str:
    """Return what the user does after a run that left nothing."""
    if turn.stage == "none":
        return f"nothing is left; no root of {turn.path} has {old}: take it out where it is trusted"
    if turn.stage == "add":
        then = "sign with the new key in your builds, and run it again: it takes the old one out"
        return f"nothing is left; now: ./inv policy.apply, {then}"
    if kept:
        return f"nothing is left of what was named, but {old} stays in {turn.path}: {'; '.join(kept)}"
    return f"nothing is left, and {old} is out of {turn.path}; now: ./inv policy.apply"


def _kept(turn: Turn, repositories: list[str]) -> list[str]:
    """Return why the old key has to stay in the policy."""
    from countersign.policy.load import load
    from signing import among, rotated

    return rotated.needed(load(turn.path), turn.old, *among.whole(repositories))


def _each(
    settings: Settings, images: list[str], repositories: list[str], old: PublicKey, new: PrivateKey, *, plan: bool
) -> list[dict[str, str]]:
    """Sign each image once; return what became of them."""
    from countersign.oci.access import registry
    from countersign.oci.errors import NotFound
    from countersign.oci.reference import parse
    from signing import among
    from signing import rotate as rotating
    from signing.signer import ByKey

    client = registry(settings)
    every = among.images(client, [*(str(parse(image)) for image in images), *repositories])
    every.sort(key=lambda one: one.stale)  # a platform comes after its index
    states: list[dict[str, str]] = []
    seen: set[str] = set()
    with (
        tempfile.TemporaryDirectory(prefix="countersign-") as work,
        output.progress(f"looking at {len(every)} images") as far,
    ):
        holds = _judge(settings, Path(work), old, new.public)
        for number, one in enumerate(every, 1):
            ref = one.ref
            far(f"{number} of {len(every)}: {ref}")
            if str(ref) in seen:
                continue
            try:
                done = rotating.turn(client, ref, ByKey(new), holds, plan=plan)
                seen |= {str(ref.at(digest)) for digest in done.digests}
                states.append({"image": done.image, "name": str(ref), "state": done.state})
            except CountersignError as error:  # one that fails stops no other, and is left
                if not (one.stale and isinstance(error, NotFound)):
                    states.append({"image": str(ref), "name": str(ref), "state": "left", "why": str(error)})
    return states


def _judge(settings: Settings, work: Path, old: PublicKey, new: PublicKey) -> Holds:
    """Return what has the gate's engine say whether an image is signed by a key."""
    from signing import verify

    program, access = verify.program(settings), verify.access(settings)
    for name, public in (("old", old), ("new", new)):
        (work / name).write_text(public.pem)

    def holds(image: str, which: Literal["old", "new"]) -> bool:
        verdict = verify.verify(program, image, verify.by_keys([work / which]), access)
        if verdict["code"] in verify.NO_ANSWER:
            raise InfrastructureError(verdict["message"])
        return bool(verdict["allow"])

    return holds
