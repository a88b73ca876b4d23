"""What every runtime under enforcement does the same way, over CRI, as a place of the matrix (``lab.trials.place``)."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.cri.model import Container, Mount, Pod
from countersign.enforcement import installing, policy, record, refusal
from countersign.enforcement.runtime import Runtime
from countersign.nodes.node import Node
from countersign.nodes.waiting import wait_for
from lab.demo import registries
from lab.trials.lab import SHORT
from lab.trials.model import Case, RegistryKind
from lab.trials.place import NONE

if TYPE_CHECKING:
    from typing_extensions import Self

    from countersign.cri.client import Client

SLEEP = ("/demo", "sleep")
VOLUME_PATH = "/volume"
NEED_THE_PLUGIN = frozenset({"added_handler", "other_runtime", "added_handler_gate_hung", "gate_hung"})
"""Ways that come out so because the runtime makes no container without the gate's NRI plugin."""


@contextmanager
def away(node: Node, path: str) -> Iterator[None]:
    """Keep a file of a node away."""
    node.run(["mv", "--", path, f"{path}.away"])
    try:
        yield
    finally:
        node.run(["mv", "--", f"{path}.away", path])


class CriPlace(ABC):
    """A runtime that set-up made, opened for trials; close it to remove the pods it made."""

    runtime = ""
    registries: Mapping[RegistryKind, str] = {"referrers": registries.REFERRERS, "fallback": registries.FALLBACK}

    def __init__(self, runtime: Runtime, users_policy: Path) -> None:
        """Open the place.

        Args:
            users_policy: the policy.yaml that ``restore_policy`` puts back.
        """
        self.at = runtime
        self._controls = runtime.controls()
        self._users_policy = users_policy
        self._pods: dict[tuple[str, ...], Pod] = {}
        self._stack = ExitStack()
        self._client: Client
        self._read = 0

    @property
    def node(self) -> str:
        """The node's name."""
        return self.at.node.name

    @property
    def short_names(self) -> bool:
        """Whether Docker Hub's names lead to the demo's registry here."""
        return SHORT in self.at.registry_names

    @staticmethod
    def rows(cases: Sequence[Case]) -> list[Case]:
        """Return the matrix as it is."""
        return list(cases)

    def why_not(self, case: Case) -> str:
        """See `lab.trials.place.Place.why_not`."""
        if case.name == "short" and not self.short_names:
            return f"{SHORT} does not lead to the demo's registry"
        if case.way == "other_handler" and len(self.at.handlers) < 2:  # noqa: PLR2004 - the default one and another
            return "there is one runtime handler only"
        if case.way in NEED_THE_PLUGIN and not self.plugin_required:
            return "the runtime cannot require the gate's NRI plugin"
        return ""

    @cached_property
    def plugin_required(self) -> bool:
        """Whether the runtime makes no container without the gate's NRI plugin."""
        return True

    @property
    def other_handler(self) -> str:
        """A runtime handler beside the default one."""
        return self.at.handlers[1]

    def __enter__(self) -> Self:
        """Connect, and begin to read the verdict log at its present end."""
        with ExitStack() as opening:
            opening.enter_context(self.at.undisturbed())
            self._client = opening.enter_context(self.at.client())
            size = self.at.node.run(["stat", "-c", "%s", self.at.layout.verdicts], check=False).text
            self._read = int(size or 0)
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the pods and disconnect."""
        with self._stack:
            self._remove_pods()

    def code_of(self, message: str) -> str:
        """Return the reason code in the gate's own sentence."""
        return refusal.code_of(message)

    def pull(self, reference: str) -> None:
        """Pull over CRI, with the credentials that a kubelet would pass on."""
        self._client.pull(reference, self.at.credentials(reference))

    def image_id(self, reference: str) -> str:
        """Return the image's ID, or an empty string."""
        image = self._client.image_status(reference)
        return image.id if image else ""

    def create(
        self,
        image_id: str,
        written: str,
        *,
        handler: str = "",
        volume: str = "",
        annotations: Mapping[str, str] = NONE,
        command: tuple[str, ...] = SLEEP,
    ) -> str:
        """Create a container in the handler's pod, as the kubelet does; annotations have a pod of their own."""
        mounts = (Mount(VOLUME_PATH, image=self.image_id(volume), image_written=volume),) if volume else ()
        container = Container(image_id, written=written, name=f"c{time.monotonic_ns()}", command=command, mounts=mounts)
        return self._client.create(self._pod(handler, annotations), container)

    def start(self, container: str) -> None:
        """Start a created container."""
        self._client.start(container)

    def remove(self, container: str) -> None:
        """Stop and remove a container."""
        self._client.stop(container)
        self._client.remove(container)

    def get(self, container: str, url: str) -> str:
        """Return what an HTTP GET from inside a running demo container answers."""
        answer = self._client.exec_sync(container, ["/demo", "get", url])
        if answer.code:
            raise InfrastructureError(answer.stderr.decode(errors="replace"), where=f"GET {url} in {container}")
        return answer.stdout.decode()

    @abstractmethod
    def import_images(self, archive: Path) -> None:
        """See `lab.trials.place.Place.import_images`."""

    @abstractmethod
    def tag(self, source: str, target: str) -> None:
        """See `lab.trials.place.Place.tag`."""

    @abstractmethod
    def forget(self, reference: str) -> None:
        """See `lab.trials.place.Place.forget`."""

    def empty(self, prefixes: Sequence[str]) -> None:
        """Remove the images of these names, IDs included, and all evidence."""
        for image in self._client.list_images():
            names = (*image.tags, *image.digests)
            if any(name.startswith(prefix) for name in names for prefix in prefixes):
                self._client.remove_image(image.id)
        self.forget_evidence()

    def set_policy(self, source: Path) -> None:
        """Put a policy on the node and wait until the gate decides by it."""
        wanted = policy.Policy(self.at.node, self.at.layout, source, tuple(self.at.pinned())).numbered()
        installing.install(wanted, record.beside(self.at.pins))

    def restore_policy(self) -> None:
        """Put the user's policy back."""
        self.set_policy(self._users_policy)

    def forget_evidence(self) -> None:
        """Empty the store with the gate stopped, so that nothing is left in its memory either."""
        evidence = self.at.layout.evidence
        self._controls.gate_renewed(lambda: self.at.node.run(["find", evidence, "-mindepth", "1", "-delete"]))

    def verdicts(self) -> list[dict[str, Any]]:
        """Return what the gate logged since the last call."""
        lines = self.at.node.run(["tail", "-c", f"+{self._read + 1}", self.at.layout.verdicts]).stdout
        complete = lines[: lines.rfind(b"\n") + 1]
        self._read += len(complete)
        return [json.loads(line) for line in complete.splitlines()]

    @abstractmethod
    def added_handler(self, *, hooked: bool, other_runtime: bool = False) -> AbstractContextManager[str]:
        """See `lab.trials.place.Place.added_handler`."""

    def hook_program_missing(self) -> AbstractContextManager[None]:
        """Move the hook's program away."""
        return away(self.at.node, self.at.layout.hook)

    def gate_stopped(self) -> AbstractContextManager[None]:
        """Keep the gate stopped."""
        return self._controls.gate_stopped()

    def gate_hung(self) -> AbstractContextManager[None]:
        """Freeze the gate."""
        return self._controls.gate_hung()

    def registry_stopped(self, kind: RegistryKind) -> AbstractContextManager[None]:
        """Keep a registry stopped."""
        return self._controls.registry_stopped(self.registries[kind])

    def restart_runtime(self) -> None:
        """Restart the runtime."""
        self._remove_pods()
        self._controls.restart_runtime()
        # A relayed connection that the restart cut off is only noticed when it is used.
        wait_for(self._answers, f"{self.runtime} did not answer over CRI again", pause=0.1)

    def _answers(self) -> bool:
        try:
            return bool(self._client.version().version)
        except CriError:
            return False

    def _pod(self, handler: str, annotations: Mapping[str, str] = NONE) -> Pod:
        key = (handler, *(f"{name}={value}" for name, value in annotations.items()))
        if key not in self._pods:
            self._pods[key] = self._client.run_pod(handler=handler, annotations=annotations)
        return self._pods[key]

    def _remove_pods(self) -> None:
        for pod in self._pods.values():
            self._client.remove_pod(pod.id)
        self._pods.clear()
