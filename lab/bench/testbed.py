"""The bench's own containerd, with a runtime handler for each hook; it comes and goes with a run."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
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
from countersign.nodes.steps import Folder, Group
from countersign.runtimes.private import made_of, steps
from countersign.runtimes.work import Work
from countersign.tools.resolver import install
from lab.bench import hooks
from lab.demo.lab import with_demo
from lab.demo.registries import REFERRERS

POLICY = Path(__file__).with_name("policy.yaml")
TOOLS = ("cosign", "noop-hook")


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
    plan = made_of(settings, replace(ours, more_handlers=hooks.paths(folder)))
    programs = install(TOOLS, settings)
    server = ours.addition.urls[REFERRERS].partition("://")[2]
    cosign = (str(programs["cosign"]), str(settings.keys / "cosign.pub"), REFERRERS, server)
    spec = gate.written(plan.gate).files[ours.layout.base_spec]
    compared_specs = hooks.files(folder, spec, programs["noop-hook"], cosign)
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
