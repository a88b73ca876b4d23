"""The proof on a containerd that nothing runs unseen: whatever proves it is called here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerd.runtime import import_archive
from countersign.enforcement import canary

if TYPE_CHECKING:
    from containerd.runtime import Runtime
    from countersign.enforcement.additions import Addition


def claim(addition: Addition) -> str:
    """Return what the proof shows, for people."""
    return f"an image without a signature is refused {'at pull and at start' if addition.canary else 'at start'}"


def try_canary(runtime: Runtime, addition: Addition) -> None:
    """Try what must be refused: at pull, where a registry has it, and at start under every handler.

    Without a registry it is brought in past the pull, whose settings `countersign.enforcement.doctor` looks at.

    Raises:
        NotEnforced: it was not refused, or not by the gate, or for another reason.
        CriError: the runtime failed before anything could be tried.
    """

    def bring(reference: str) -> None:
        if addition.canary:
            runtime.fetch(reference)
        else:
            import_archive(runtime, canary.archive())

    with runtime.undisturbed(), runtime.client() as client:
        canary.prove(client, bring, runtime.forget, runtime.handlers, pull=bool(addition.canary))
