"""Tasks: check the policy, say which rule applies to an image, and show what nodes are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from countersign.console import whole
from countersign.console.config import settings_from
from countersign.console.errors import UsageError
from countersign.console.output import done, emit_json, emit_text, failed, say, table, warn
from countersign.console.sources import nearest
from countersign.console.task import task

if TYPE_CHECKING:
    from countersign.policy.explain import Explanation
    from countersign.policy.model import Policy
    from countersign.policy.problems import PolicyInvalid

_POLICY = "the policy (default: policy of the configuration)"
_JSON = "one JSON document on stdout"


@task(help={"policy": _POLICY, "json": _JSON})
def check(context: Context, policy: str = "", json: bool = False) -> None:
    """Check the policy; every problem is shown with file, line and key.

    Example: ./inv policy.check
    """
    from countersign.policy import size
    from countersign.policy.load import load
    from countersign.policy.notes import notes as notes_of
    from countersign.policy.problems import PolicyInvalid, shown

    path = _path(context, policy)
    try:
        found = load(path)
        size.check(found)
        unseen = _conditions(context, found)
    except PolicyInvalid as err:
        if json:
            _emit_problems(err)
        if len(err.problems) == 1:
            raise
        for problem in err.problems:
            failed(str(problem))
        raise UsageError(
            f"{len(err.problems)} problems", where=shown(path), do="correct them; nodes keep theirs"
        ) from err
    notes = [*notes_of(found), *unseen]
    counts = {"root": found.roots, "scope": found.scopes, "pin": found.pinned}
    done(f"{shown(path)}: " + ", ".join(_count(len(what), word) for word, what in counts.items()))
    lists = [f"{each} ({shown(each.path)})" for each in found.lists]
    for line in lists:
        say(f"revoked, list {line}")
    for note in notes:
        warn(note)
    if json:
        answer = {"valid": True, "problems": [], "notes": notes, "lists": lists}
        emit_json({"version": "countersign.policy-check/v1", **answer})


@task(
    iterable=["image"],
    help={
        "image": "an image as a pod would name it (may be given more than once)",
        "policy": _POLICY,
        "json": _JSON,
    },
)
def explain(context: Context, image: list[str], policy: str = "", json: bool = False) -> None:
    """Say which rule applies to an image, and why; from its name alone, no registry is asked.

    Example: ./inv policy.explain --image registry.example/app:v1
    """
    from countersign.policy.explain import explain as explain_one
    from countersign.policy.load import load

    if not image:
        raise UsageError("no image", expected="--image NAME", do="see --help")
    found = load(_path(context, policy))
    explanations = [explain_one(found, name) for name in image]
    if json:
        emit_json({"version": "countersign.explain/v1", "images": [one.as_json() for one in explanations]})
        return
    for one in explanations:
        _show(one)


@task(
    help={
        "engine": "whose policy: gate, cluster (a CountersignPolicy for kubectl), crio, crio-registries (its"
        " registries.d), kyverno, kyverno-verifyimages (for Kyverno without ImageValidatingPolicy), gatekeeper, or"
        " notation",
        "out": "file to write, whole or not at all (default: stdout); for notation a folder, with the trust stores too",
        "policy": _POLICY,
    }
)
def render(context: Context, engine: str = "gate", out: str = "", policy: str = "") -> None:
    """Show the policy in the form that an engine reads, and what that engine cannot say.

    Example: ./inv policy.render --out policy.json
    """
    from countersign.policy import cluster, crio, gate, gatekeeper, kyverno, notation, size
    from countersign.policy.load import load
    from countersign.policy.part import part

    renderers: Mapping[str, Callable[[Policy], bytes]] = {
        "gate": gate.render,
        "cluster": cluster.render,
        "crio": lambda found: crio.render(found, settings_from(context)).policy,
        "crio-registries": lambda found: crio.render(found, settings_from(context)).registries_d,
        "kyverno": kyverno.render,
        "kyverno-verifyimages": kyverno.render_verify_images,
        "gatekeeper": gatekeeper.render,
        "notation": notation.render,
    }
    if engine not in renderers:
        near = nearest(engine, renderers)
        do = f"did you mean {near}?" if near else ""
        raise UsageError(f"got {engine!r}", where="--engine", expected=f"one of {', '.join(renderers)}", do=do)
    found = load(_path(context, policy))
    content = renderers[engine](found)
    if engine == "gate":
        size.check(found)
    if engine == "cluster":
        size.check_object(found, content)
    limits = {**kyverno.LIMITS, **crio.LIMITS, "gatekeeper": gatekeeper.LIMITS}
    engines = {**kyverno.ENGINES, "crio": crio.ENGINE}
    for limit in (*limits.get(engine, ()), *(part(found, engines[engine])[1] if engine in engines else ())):
        warn(f"{engine}: {limit}")
    if engine == "notation":
        for line in (*notation.LIMITS, *notation.left_out(found)):
            warn(f"{engine}: {line}")
        if out:
            count = _write_folder(Path(out).expanduser(), found)
            done(f"{out}: {count} files; notation reads them in ~/.config/notation")
            return
    if not out:
        emit_text(content.decode())
        return
    _write(Path(out).expanduser(), content)
    done(f"{out}: {len(content)} bytes")


def show_notes(path: Path) -> None:
    """Warn, at the end of a set-up, of what is valid in the policy that nodes were given and hardly meant."""
    from countersign.policy.load import load
    from countersign.policy.notes import notes
    from countersign.policy.problems import shown

    for note in notes(load(path)):
        warn(f"{shown(path)}: {note}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _path(context: Context, policy: str) -> Path:
    return Path(policy).expanduser() if policy else settings_from(context).policy


def _conditions(context: Context, policy: Policy) -> list[str]:
    """Have the gate compile the conditions of a policy; return a note where there is no gate to do that."""
    from countersign.policy import conditions
    from countersign.tools.resolver import find

    if not conditions.any_in(policy):
        return []
    program = find(conditions.PROGRAM, settings_from(context))
    if not program:
        install = f"./inv tools.install --name {conditions.PROGRAM}"
        return [f"conditions (where) were not compiled: that is the gate's, and it is not built here yet: {install}"]
    conditions.check(policy, program.path)
    return []


def _emit_problems(err: PolicyInvalid) -> None:
    from countersign.policy.problems import dotted

    problems = [
        {"file": str(one.path), "line": one.line, "key": dotted(one.key), "message": one.text} for one in err.problems
    ]
    emit_json(
        {"version": "countersign.policy-check/v1", "valid": False, "problems": problems, "notes": [], "lists": []}
    )


def _show(one: Explanation) -> None:
    say(f"{one.name} → {one.reference or 'an image ID'}")
    rows = [
        ("→" if found.applies else "", found.scope, str(found.rule or "-"), found.where) for found in one.candidates
    ]
    if rows:
        table(("", "scope", "rule", "line"), rows)
    say(f"rule: {one.rule} ({one.because})")
    for key in one.keys:
        say(f"  {key.root}: {key.kind} {key.fingerprint}{' REVOKED' if key.revoked else ''}")
    for root, identity in one.identities.items():
        say(f"  {root}: {identity}")
    for asked in one.attestations:
        say(f"  attestation: {asked}")
    for pin in one.pins:
        say(f"pinned: {pin}{'' if one.digest else ' (this digest may run whatever the rule says)'}")
    if one.revoked:
        say(f"revoked: {one.digest}: refused whatever the rule says")
    for line in one.lists:
        say(f"revoked, list {line}")


def _write_folder(path: Path, policy: Policy) -> int:
    """Put notation's files in place at once, and return how many there are."""
    from countersign.policy import notation

    try:
        return notation.write(path, policy)
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=str(path), do="name another folder") from err


def _write(path: Path, content: bytes) -> None:
    try:
        whole.write(path, content)
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=str(path)) from err
