"""What happens around set-up: a failed one leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from console import output
from console.steps import run_steps
from containerd.clean import steps
from containerd.instance import Instance


@contextlib.contextmanager
def removed_on_failure(instance: Instance, *, keep: bool) -> Iterator[None]:
    """Take the instance away when the block fails or is interrupted.

    One that was there before the block stays, and so does everything with ``keep``.
    """
    keep = keep or instance.node.exists(str(instance.root))
    try:
        yield
    except BaseException:
        if keep:
            output.warn(f"kept as it is: {instance.root}; ./inv containerd.clean takes it away")
        else:
            run_steps(instance.node, steps(instance))
        raise
