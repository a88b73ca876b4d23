"""What the matrix needs of a place: a runtime with its gate and its registries, on some node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from countersign.enforcement.runtime import Runtime
from lab.trials.model import Case, RegistryKind

NONE: Mapping[str, str] = MappingProxyType({})
"""No annotations."""


class Place(Protocol):
    """A runtime under enforcement, opened for trials. Each runtime has one adapter (`lab.trials.runtimes`).

    Attributes:
        runtime: ``containerd`` or ``crio``.
        node: the node's name, as shown in tables.
        registries: the lab's registry of each kind, by its name in image references.
    """

    @property
    def runtime(self) -> str:
        """The runtime's name."""

    @property
    def node(self) -> str:
        """The node's name."""

    @property
    def registries(self) -> Mapping[RegistryKind, str]:
        """Registry kind -> host name in image references."""

    @property
    def at(self) -> Runtime | None:
        """What set-up made; its logs are kept when a row comes out otherwise."""

    def __enter__(self) -> object:
        """Connect."""

    def __exit__(self, *error: object) -> None:
        """Take away what trials made, and disconnect."""

    def rows(self, cases: Sequence[Case]) -> list[Case]:
        """Return the matrix as this runtime can say it: rows that it has no way for left out, its own codes put in."""

    def why_not(self, case: Case) -> str:
        """Return why a row cannot be tried on this node, or an empty text."""

    @property
    def short_names(self) -> bool:
        """Whether Docker Hub's names lead to the lab's registry; rows with short names need that."""

    @property
    def other_handler(self) -> str:
        """A runtime handler beside the default one."""

    def code_of(self, message: str) -> str:
        """Return the reason code that the runtime's error stands for, or an empty text."""

    def pull(self, reference: str) -> None:
        """Pull as the kubelet does, over CRI. Raises cri.CriError when the runtime refuses."""

    def image_id(self, reference: str) -> str:
        """Return the image's ID, or an empty string when the runtime does not have it."""

    def create(
        self,
        image_id: str,
        written: str,
        *,
        handler: str = "",
        volume: str = "",
        annotations: Mapping[str, str] = NONE,
    ) -> str:
        """Create a container that will sleep, and return its ID.

        Args:
            image_id: what the kubelet passes as the image to create from.
            written: the name as the user wrote it.
            handler: the runtime handler; empty is the default one.
            volume: an image to mount as a volume; empty is none.

        Raises:
            cri.CriError: the runtime refuses.
        """

    def start(self, container: str) -> None:
        """Start a created container. Raises cri.CriError when the runtime refuses."""

    def remove(self, container: str) -> None:
        """Stop and remove a container."""

    def import_images(self, archive: Path) -> None:
        """Load an OCI archive past every pull check."""

    def tag(self, source: str, target: str) -> None:
        """Give an image another name in the runtime's store; an existing name is re-pointed."""

    def forget(self, reference: str) -> None:
        """Remove one name from the runtime's store, behind CRI's back; none of that name is not an error."""

    def empty(self, prefixes: Sequence[str]) -> None:
        """Remove all images with a name that begins with one of ``prefixes``, and all evidence."""

    def set_policy(self, policy: Path) -> None:
        """Render a policy.yaml, put it on the node, and return once the gate enforces it."""

    def restore_policy(self) -> None:
        """Put the user's policy back."""

    def forget_evidence(self) -> None:
        """Empty the node's evidence store and the gate's memory."""

    def verdicts(self) -> list[dict[str, Any]]:
        """Return the verdicts that the gate logged since the last call."""

    def added_handler(self, *, hooked: bool, other_runtime: bool = False) -> AbstractContextManager[str]:
        """Have one more runtime handler and give its name.

        Args:
            hooked: its base spec is the one with the hook.
            other_runtime: by its type, its runtime is another than runc's (in truth it is runc's, so that only the
                type speaks against it).
        """

    def hook_program_missing(self) -> AbstractContextManager[None]:
        """Keep the hook's program away."""

    def gate_stopped(self) -> AbstractContextManager[None]:
        """Keep the gate stopped; its supervisor brings it back afterwards."""

    def gate_hung(self) -> AbstractContextManager[None]:
        """Keep the gate hung, alive and answering nothing."""

    def registry_stopped(self, kind: RegistryKind) -> AbstractContextManager[None]:
        """Keep a registry stopped."""

    def restart_runtime(self) -> None:
        """Restart the runtime and return once it answers."""
