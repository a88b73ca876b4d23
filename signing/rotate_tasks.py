"""Task: from an old key to a new one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from countersign.console.task import task
from signing.signers import KEY_HELP

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.console.config import Settings
    from countersign.keys.pair import PublicKey
    from countersign.oci.reference import Reference
    from countersign.oci.registry import Registry
    from signing.rotate import Holds


@task(
    iterable=["image", "repository"],
    help={
        "old": "the old key's public half, a file",
        "key": KEY_HELP.replace("private key", "the new private key", 1),
        "image": "an image: NAME:TAG or NAME@DIGEST (may be given more than once)",
        "repository": "all tags of a repository (may be given more than once)",
        "plan": "find what the old key signed, and change nothing",
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
    """Sign with a new key all that an old one has signed; exit code 1 if something is left. Run it again to go on.

    Example: ./inv signing.rotate --old keys/old.pub --key keys/new.key --repository registry.example/app
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import CountersignError, UsageError, VerdictError
    from countersign.keys.pair import load_public
    from countersign.oci.access import registry
    from signing import rotate as rotating
    from signing.signer import ByKey
    from signing.signers import private

    settings = settings_from(context)
    if not old or not (image or repository):
        raise UsageError("nothing to rotate", expected="--old FILE, and --image or --repository", do="see --help")
    before, new = load_public(Path(old).expanduser()), private(settings, key)()
    if before.fingerprint == new.public.fingerprint:
        raise UsageError("the old key and the new one are the same", where="--old, --key")
    client = registry(settings)
    refs = _references(client, image, repository)
    states: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="countersign-") as work:
        holds = _judge(settings, Path(work), before, new.public)
        with output.progress(f"looking at {len(refs)} images") as far:
            for number, ref in enumerate(refs, 1):
                far(f"{number} of {len(refs)}: {ref}")
                try:
                    done = rotating.turn(client, ref, ByKey(new), holds, plan=plan)
                    states.append({"image": done.image, "name": str(ref), "state": done.state})
                except CountersignError as error:  # one that fails stops no other, and is left
                    states.append({"image": str(ref), "name": str(ref), "state": "left", "why": str(error)})
    for one in states:
        output.say(": ".join(filter(None, (one["name"], one["state"], one.get("why", "")))))
    left = sum(one["state"] not in rotating.DONE for one in states)
    if json:
        keys = {"old": before.fingerprint, "new": new.public.fingerprint}
        output.emit_json({"version": "countersign.rotated/v1", **keys, "plan": plan, "left": left, "images": states})
    if plan:
        output.say(f"plan: {left} of {len(states)} to be signed, nothing was changed")
    elif left:
        raise VerdictError(f"{left} of {len(states)} images are left", do="run it again when what is named is fixed")
    else:
        output.done(f"nothing is left; now take {old} out of its root in policy.yaml, and ./inv policy.apply")


def _references(client: Registry, images: list[str], repositories: list[str]) -> list[Reference]:
    from countersign.oci.reference import parse
    from countersign.oci.tags import tags

    found = [parse(one) for one in images]
    for one in repositories:
        name = parse(one).name
        found += [parse(f"{name}:{tag}") for tag in tags(client, name)]
    return found


def _judge(settings: Settings, work: Path, old: PublicKey, new: PublicKey) -> Holds:
    """Return what has the gate's engine say whether an image is signed by a key."""
    from countersign.console.errors import InfrastructureError
    from countersign.oci.access import docker_configs, hosts_folder
    from signing import verify

    program = verify.program(settings)
    access = verify.Access(hosts_folder(settings), docker_configs(settings))
    for name, public in (("old", old), ("new", new)):
        (work / name).write_text(public.pem)

    def holds(image: str, which: Literal["old", "new"]) -> bool:
        verdict = verify.verify(program, image, verify.by_keys([work / which]), access)
        if verdict["code"] in verify.NO_ANSWER:
            raise InfrastructureError(verdict["message"])
        return bool(verdict["allow"])

    return holds
