"""Task: what to do when a key was stolen."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from countersign.console import output
from countersign.console.config import Settings, settings_from
from countersign.console.errors import CountersignError, InfrastructureError, UsageError, VerdictError
from countersign.console.task import task
from signing.signers import KEY_HELP, private

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey, PublicKey
    from countersign.policy.model import Policy
    from signing.recover import Engine, Recovered


@task(
    iterable=["image"],
    help={
        "old": "the stolen key's public half, a file",
        "key": KEY_HELP.replace("private key", "the new private key", 1),
        "image": "NAME@DIGEST: known to be yours, and signed again; only looked at: NAME:TAG, a repository, "
        "HOST/ (its catalog); @FILE: one of these a line (may be given more than once)",
        "since": "when the key was stolen: 2026-11-01 (sorts what is found)",
        "plan": "show what rests on the key and the policy's difference, and change nothing",
        "json": "one JSON document on stdout",
    },
)
def recover(
    context: Context,
    image: list[str],
    old: str = "",
    key: str = "",
    since: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Recover from a stolen key: revoke it in policy.yaml, find what it signed, sign again what is yours, prove it.

    Example: ./inv signing.recover --old keys/stolen.pub --key keys/new.key --image @ours.txt --image registry.example/
    """
    from countersign.keys.pair import load_public
    from signing import amended
    from signing import recover as recovering

    settings = settings_from(context)
    if not old or not image:
        raise UsageError("nothing to recover", expected="--old FILE, and --image", do="see --help")
    when, stolen, new = recovering.date(since), load_public(Path(old).expanduser()), private(settings, key)()
    if stolen.fingerprint == new.public.fingerprint:
        raise UsageError("the old key and the new one are the same", where="--old, --key")
    with ExitStack() as stack:
        named = key or str(settings.keys / "cosign.key")
        file = stack.enter_context(amended.key_file(settings.policy, named, new.public, keep=not plan))
        before = settings.policy.read_text(encoding="utf-8")
        after = _amended(settings, before, stolen, new.public, file)
        policy = (amended.check if plan else amended.replace)(settings.policy, after)
        for line in amended.difference(settings.policy, before, after):
            output.say(line)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="countersign-")))
        found, wrong = _each(settings, image, new, _engine(settings, work, policy, stolen, new.public), when, plan)
    for one in found:
        _show(one)
    if json:
        keys = {"old": stolen.fingerprint, "new": new.public.fingerprint, "since": since, "plan": plan}
        images = [asdict(one) for one in found]
        amends = {"policy": str(settings.policy), "amended": after != before and not plan, "problems": wrong}
        output.emit_json({"version": "countersign.recovered/v1", **keys, **amends, "images": images})
    refused = sum(one.state == "refused" for one in found)
    left = sum(one.state == "left" for one in found) + len(wrong)
    if plan:
        output.say(f"plan: {sum(one.state == 'to be signed' for one in found)} to be signed, nothing was changed")
    if refused:
        output.say(f"{refused} that nobody named stay refused; what of them is yours: name it by digest, run it again")
    if left:
        raise VerdictError(f"{left} of {len(found)} images are left", do="run it again when what is named is fixed")
    if not plan:
        output.done(
            f"{old} is revoked in {settings.policy}; now: ./inv policy.apply, then countersign-gate audit --stop"
        )


def _amended(settings: Settings, before: str, old: PublicKey, new: PublicKey, file: str) -> str:
    """Return the policy's text with the old key revoked and the new one beside it, in every root that has it."""
    from countersign.policy import amend
    from countersign.policy.load import load
    from signing.amended import is_key, today

    path = settings.policy
    load(path)
    after = amend.beside(before, lambda one: is_key(path, one, old), lambda one: is_key(path, one, new), file, today())
    return amend.revoke(after, {"keys": [old.fingerprint]}, str(path))


def _engine(settings: Settings, work: Path, policy: Policy, old: PublicKey, new: PublicKey) -> Engine:
    from countersign.policy import gate
    from signing import inspection, verify
    from signing.recover import Engine, asked

    program = verify.program(settings)
    access = verify.access(settings)
    roots, rendered = asked(settings.policy, old, new), work / "policy.json"
    rendered.write_bytes(gate.render(policy))

    def judged(image: str) -> verify.Verdict:
        verdict = verify.verify(program, image, verify.by_policy(rendered), access)
        if verdict["code"] in verify.NO_ANSWER - {"MALFORMED"}:  # whoever pushed that is refused
            raise InfrastructureError(verdict["message"])
        return verdict

    return Engine(lambda image: inspection.inspect(program, image, roots, access), judged)


def _each(
    settings: Settings, names: list[str], new: PrivateKey, engine: Engine, when: object, plan: bool
) -> tuple[list[Recovered], list[str]]:
    """Recover each image once, by digest; return what became of them, and why others could not be looked at."""
    from countersign.oci.access import registry
    from countersign.oci.errors import NotFound
    from signing import among
    from signing import recover as recovering
    from signing.signer import ByKey

    client = registry(settings)
    every = among.images(client, names)
    since = when if isinstance(when, datetime) else None
    done: dict[str, Recovered] = {}
    wrong: list[str] = []
    with output.progress(f"looking at {len(every)} images") as far:
        for number, one in enumerate(every, 1):
            far(f"{number} of {len(every)}: {one.ref}")
            try:
                ref = one.ref.at(one.ref.digest or client.resolve(one.ref).digest)
                if str(ref) not in done:
                    signer = ByKey(new)
                    done[str(ref)] = recovering.recover(client, ref, signer, engine, since, ours=one.named, plan=plan)
            except CountersignError as error:  # one that fails stops no other, and is left
                if one.stale and isinstance(error, NotFound):
                    continue
                wrong.append(str(error))
                output.say(f"{one.ref}: left: {error}")
    return [one for one in done.values() if one.state != "not the old key's"], wrong


def _show(one: Recovered) -> None:

    more = [f"says to be signed {', '.join(one.times)} ({one.says})"] if one.times else []
    if one.attestations:
        more.append(f"attestations by the old key: {one.attestations}, attest again")
    output.say(": ".join(filter(None, (one.image, one.state, one.code, "; ".join(more)))))
