"""The private containerd as a place where the matrix runs (``cases.place``)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import InfrastructureError
from containerd.instance import Instance
from cri.model import Auth, Container, Mount
from enforcement import policy, registries
from nodes import service
from nodes.service import Service

if TYPE_CHECKING:
    from typing_extensions import Self

    from cases.model import RegistryKind
    from cri.client import Client
    from cri.model import Pod

RECOVERY = 30.0
"""Seconds within which a killed or hung service must be back by itself."""
SLEEP = ("/demo", "sleep")
VOLUME_PATH = "/volume"


class ContainerdPlace:
    """A set-up instance, opened for trials; close it to remove the pods it made."""

    runtime = "containerd"
    node = "host"
    registries: Mapping[RegistryKind, str] = {"referrers": registries.REFERRERS, "fallback": registries.FALLBACK}

    def __init__(self, instance: Instance, users_policy: Path) -> None:
        """Open the place.

        Args:
            instance: a containerd that set-up made.
            users_policy: the policy.yaml that ``restore_policy`` puts back.
        """
        self._instance = instance
        self._users_policy = users_policy
        self._pods: dict[str, Pod] = {}
        self._stack = ExitStack()
        self._client: Client = self._stack.enter_context(instance.client())
        self._log = Path(instance.layout.verdicts)
        self._read = self._log.stat().st_size if self._log.exists() else 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the pods and disconnect."""
        self._remove_pods()
        self._stack.close()

    def pull(self, reference: str) -> None:
        """Pull over CRI, with the credentials that a kubelet would pass on."""
        auth = None
        if reference.startswith(f"{registries.FALLBACK}/"):
            made = registries.load_or_make(self._instance.registry_folder)
            auth = Auth(registries.USER, made.password)
        self._client.pull(reference, auth)

    def image_id(self, reference: str) -> str:
        """Return the image's ID, or an empty string."""
        image = self._client.image_status(reference)
        return image.id if image else ""

    def create(
        self, image_id: str, written: str, *, handler: str = "", volume: str = "", command: tuple[str, ...] = SLEEP
    ) -> str:
        """Create a container in the handler's pod, as the kubelet does."""
        mounts = (Mount(VOLUME_PATH, image=self.image_id(volume), image_written=volume),) if volume else ()
        container = Container(image_id, written=written, name=f"c{time.monotonic_ns()}", command=command, mounts=mounts)
        return self._client.create(self._pod(handler), container)

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

    def import_images(self, archive: Path) -> None:
        """Load an OCI archive with ctr, which asks no verifier."""
        self._instance.ctr(["images", "import", "--snapshotter", self._instance.snapshotter, str(archive)], timeout=300)

    def tag(self, source: str, target: str) -> None:
        """Give an image another name; an existing one is re-pointed."""
        self._instance.ctr(["images", "tag", "--force", source, target])

    def forget(self, reference: str) -> None:
        """Remove one name."""
        self._instance.forget(reference)

    def empty(self, prefixes: Sequence[str]) -> None:
        """Remove the images of these names, IDs included, and all evidence."""
        for image in self._client.list_images():
            names = (*image.tags, *image.digests)
            if any(name.startswith(prefix) for name in names for prefix in prefixes):
                self._client.remove_image(image.id)
        self.forget_evidence()

    def set_policy(self, source: Path) -> None:
        """Put a policy on the node and wait until the gate decides by it."""
        rendered = policy.render(source, policy.read_pins(self._instance.pins))
        self._instance.node.put(rendered, self._instance.layout.policy)
        policy.in_force(self._instance.node, self._instance.layout, rendered)

    def restore_policy(self) -> None:
        """Put the user's policy back."""
        self.set_policy(self._users_policy)

    def forget_evidence(self) -> None:
        """Empty the store with the gate stopped, so that nothing is left in its memory either."""
        spec = self._spec("gate")
        service.stop(self._instance.run, "gate")
        evidence = self._instance.layout.evidence
        self._instance.node.run(["find", evidence, "-mindepth", "1", "-delete"])
        service.start(spec)

    def verdicts(self) -> list[dict[str, Any]]:
        """Return what the gate logged since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            lines = log.read()
        complete = lines[: lines.rfind(b"\n") + 1]
        self._read += len(complete)
        return [json.loads(line) for line in complete.splitlines()]

    @contextmanager
    def gate_stopped(self) -> Iterator[None]:
        """Kill the gate and hold its supervisor; let go, and it comes back by itself."""
        supervisor = service.state(self._instance.run, "gate").supervisor
        if supervisor is None or not supervisor.send(signal.SIGSTOP):
            raise InfrastructureError("is not supervised", where="gate")
        killed = self._child("gate")
        service.signal_child(self._instance.run, "gate", signal.SIGKILL)
        try:
            yield
        finally:
            supervisor.send(signal.SIGCONT)
            self._await_another("gate", killed)

    @contextmanager
    def gate_hung(self) -> Iterator[None]:
        """Freeze the gate; its watchdog must notice and replace it."""
        frozen = self._child("gate")
        service.signal_child(self._instance.run, "gate", signal.SIGSTOP)
        try:
            yield
        finally:
            self._await_another("gate", frozen)

    @contextmanager
    def registry_stopped(self, kind: RegistryKind) -> Iterator[None]:
        """Stop a registry, and start it again afterwards."""
        name = registries.SERVICES[self.registries[kind]]
        spec = self._spec(name)
        service.stop(self._instance.run, name)
        try:
            yield
        finally:
            service.start(spec)

    def restart_runtime(self) -> None:
        """Restart containerd."""
        self._remove_pods()
        spec = self._spec("containerd")
        service.stop(self._instance.run, "containerd")
        service.start(spec)

    def _pod(self, handler: str) -> Pod:
        if handler not in self._pods:
            self._pods[handler] = self._client.run_pod(handler=handler)
        return self._pods[handler]

    def _remove_pods(self) -> None:
        for pod in self._pods.values():
            self._client.remove_pod(pod.id)
        self._pods.clear()

    def _spec(self, name: str) -> Service:
        path = self._instance.run / f"{name}.json"
        return Service.from_json(path.read_text(encoding="utf-8"))

    def _child(self, name: str) -> int:
        child = service.state(self._instance.run, name).child
        return child.pid if child else 0

    def _await_another(self, name: str, old: int) -> None:
        def back() -> bool:
            found = service.state(self._instance.run, name)
            return found.state == "running" and found.child is not None and found.child.pid != old

        _await(back, f"{name} did not come back by itself within {RECOVERY:g} s")


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + RECOVERY
    while not condition():
        if time.monotonic() > deadline:
            raise InfrastructureError(otherwise)
        time.sleep(0.02)
