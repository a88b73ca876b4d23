"""What happens around set-up: a failed one leaves nothing behind but what tells why."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from containerd.instance import Instance
from countersign.console import output
from countersign.console.steps import run_steps
from countersign.enforcement.teardown import steps


@contextlib.contextmanager
def removed_on_failure(instance: Instance, *, keep: bool) -> Iterator[None]:
    """Take the instance away when the block fails or is interrupted, once its logs have been copied.

    One that was there before the block stays, and so does everything with ``keep``.
    """
    keep = keep or instance.node.exists(str(instance.root))
    try:
        yield
    except BaseException:
        if keep:
            output.warn(f"kept as it is: {instance.root}; ./inv containerd.clean takes it away")
        elif instance.node.exists(str(instance.root)):
            from countersign.enforcement.artifacts import collect

            kept = collect(instance, instance.state / "artifacts" / time.strftime("setup-%Y%m%dT%H%M%S"))
            run_steps(steps(instance))
            output.say(f"artifacts   {kept}")
        raise
