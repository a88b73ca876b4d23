"""The bench's own containerd, with a runtime handler for each hook; it comes and goes with a run."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from containerd.instance import Instance, instance
from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError
from countersign.console.steps import run_steps
from countersign.enforcement import gate, teardown
from countersign.enforcement.runtime import collect
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.steps import File, Folder, Group
from countersign.nodes.template import render
from countersign.runtimes.private import made_of, steps
from countersign.runtimes.work import Work
from countersign.tools.resolver import install
from lab.bench.model import COSIGN, NO_HOOK, NO_OP
from lab.demo.lab import with_demo
from lab.demo.registries import REFERRERS

POLICY = Path(__file__).with_name("policy.yaml")
TOOLS = ("cosign", "noop-hook")

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "cosign-hook.sh"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Testbed:
    """A set-up instance whose extra handlers start containers without a verdict.

    Attributes:
        settings: with a state folder, policy and keys of the bench's own.
        programs: of the compared hooks: tool → its file.
    """

    settings: Settings
    instance: Instance
    plan: Work[Any]
    programs: Mapping[str, Path]

    def forget(self) -> None:
        """Make the gate forget every outcome and every document; the evidence stays on the node."""
        service.stop(self.instance.run, "gate")
        service.start(gate.service(self.plan.gate, self.instance.cgroup))


@contextmanager
def opened(settings: Settings, *, compared: bool = True) -> Iterator[Testbed]:
    """Set up below ``<state>/bench``, and take it all away again; on failure its logs are kept.

    Args:
        compared: with the handlers that are compared with, and so without NRI, which would refuse them.

    Raises:
        MissingError: we are not root.
        InfrastructureError: it cannot be set up.
    """
    state = settings.state / "bench"
    own = replace(settings, state=state, policy=state / POLICY.name, keys=state / "keys")
    ours = with_demo(own, instance(state))
    if os.geteuid() != 0:
        raise MissingError("the bench needs root", do="run it as root")
    with _exclusive(settings.state):
        _remove(ours)
        try:
            yield _set_up(own, ours, compared=compared)
        except BaseException:
            if ours.root.is_dir():
                kept = collect(ours, settings.state / "artifacts" / time.strftime("bench-%Y%m%dT%H%M%S"))
                output.say(f"artifacts   {kept}")
            raise
        finally:
            _remove(ours)


@contextmanager
def _exclusive(state: Path) -> Iterator[None]:
    """Let one run at a time have the machine; the lock ends with the process."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InfrastructureError("another bench runs", where=lock.name, do="wait for its end") from None
        yield


def _set_up(settings: Settings, ours: Instance, *, compared: bool) -> Testbed:
    settings.state.mkdir()
    shutil.copyfile(POLICY, settings.policy)
    if not compared:
        plan = made_of(settings, ours)
        run_steps(steps(plan))
        return Testbed(settings, ours, plan, {})
    folder = settings.state / "specs"
    plan = made_of(settings, replace(ours, more_handlers=hooked_specs(folder)))
    programs = install(TOOLS, settings)
    server = ours.addition.urls[REFERRERS].partition("://")[2]
    cosign = (str(programs["cosign"]), str(settings.keys / "cosign.pub"), REFERRERS, server)
    spec = gate.written(plan.gate).files[ours.layout.base_spec]
    compared_specs = hook_files(folder, spec, programs["noop-hook"], cosign)
    handlers = Group(
        ours.node, f"handlers to compare with ({folder})", [Folder(ours.node, str(folder)), *compared_specs]
    )
    run_steps([handlers, *steps(plan)])
    return Testbed(settings, ours, plan, programs)


def _remove(ours: Instance) -> None:
    for step in teardown.steps(ours):
        if step.needed():
            step.apply()
    shutil.rmtree(ours.state, ignore_errors=True)


def hooked_specs(folder: Path) -> dict[str, str]:
    """Return handler → where its base spec will lie below ``folder``."""
    return {variant.handler: str(folder / f"{variant.handler}.json") for variant in (NO_HOOK, NO_OP, COSIGN)}


def hook_files(folder: Path, countersigns: bytes, noop: Path, cosign: Sequence[str]) -> list[File]:
    """Return the base specs, and the script that one of them runs.

    Args:
        countersigns: the base spec with countersign's hook.
        noop: the hook that does nothing.
        cosign: the arguments of ``cosign-hook.sh``.
    """
    script = File(HOST, str(folder / SCRIPT.name), SCRIPT.read_bytes(), 0o755)
    argv: dict[str, Sequence[str]] = {
        NO_HOOK.handler: (),
        NO_OP.handler: (str(noop),),
        COSIGN.handler: (script.path, *cosign),
    }
    env = [PATH, f"HOME={folder}"]
    specs = hooked_specs(folder).items()
    return [script, *(File(HOST, path, _other_hook(countersigns, argv[handler], env)) for handler, path in specs)]


def _other_hook(spec: bytes, argv: Sequence[str], env: Sequence[str]) -> bytes:
    document: dict[str, Any] = json.loads(spec)
    hooks = [json.loads(render(HERE / "hook.json.j2", argv=list(argv), env=list(env)))] if argv else []
    document["hooks"]["createRuntime"] = hooks
    return (json.dumps(document, indent=2) + "\n").encode()
