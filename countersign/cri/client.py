"""The calls of CRI v1 that the kubelet makes, typed, for one runtime."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from countersign.cri import messages
from countersign.cri.api import api_pb2 as api
from countersign.cri.errors import CriError
from countersign.cri.model import Auth, Container, Exec, Image, Pod, Status, Version, parse_log

if TYPE_CHECKING:
    from typing_extensions import Self

MESSAGE_LIMIT = 16 << 20
LOG_LIMIT = 4 << 20
IMAGE_CALLS = frozenset({"PullImage", "ImageStatus", "ListImages", "RemoveImage"})

Response = TypeVar("Response")


class Client:
    """A connection to one runtime's CRI socket; also a context manager that closes it.

    Args:
        target: a gRPC target, such as ``unix:/run/containerd/containerd.sock``.
        cgroup_parent: the cgroup of pods that name none; empty leaves the choice to the runtime.
        log_directory: a folder of the node for container logs; each pod gets a folder in it.
            Without one containers have no logs.
        read: reads a file of the node, for `logs`; the default reads this machine's.
        timeout: seconds for each call that does not say otherwise.
    """

    def __init__(
        self,
        target: str,
        *,
        cgroup_parent: str = "",
        log_directory: str = "",
        read: Callable[[str], bytes] | None = None,
        timeout: float = 60,
    ) -> None:
        self.target = target
        self.cgroup_parent = cgroup_parent
        self.log_directory = log_directory
        self._read = read or (lambda path: Path(path).read_bytes())
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            target,
            options=[
                # grpc would send the escaped socket path as :authority, which Go servers refuse
                ("grpc.default_authority", "localhost"),
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.enable_http_proxy", 0),
            ],
        )

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _call(self, method: str, request: Any, response: type[Response], timeout: float | None = None) -> Response:
        service = "ImageService" if method in IMAGE_CALLS else "RuntimeService"
        call = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,  # type: ignore[attr-defined]
        )
        try:
            answer: Response = call(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise CriError(method, error.code().name, error.details() or "") from error
        return answer

    def version(self) -> Version:
        """Return the runtime's name and version."""
        answer = self._call("Version", api.VersionRequest(version="v1"), api.VersionResponse)
        return Version(answer.runtime_name, answer.runtime_version)

    def conditions(self) -> dict[str, str]:
        """Return what the runtime says it is not ready for: condition (``NetworkReady``) → why."""
        answer = self._call("Status", api.StatusRequest(), api.StatusResponse)
        return {c.type: f"{c.reason}: {c.message}" for c in answer.status.conditions if not c.status}

    def pull(self, reference: str, auth: Auth | None = None, pod: Pod | None = None, timeout: float = 300) -> str:
        """Pull an image and return its ID.

        Args:
            auth: for this pull only; otherwise the runtime's own.
            timeout: seconds.

        Raises:
            CriError: also when the pull-time verifier refuses; its reason is in the message.
        """
        request = api.PullImageRequest(image=api.ImageSpec(image=reference, user_specified_image=reference))
        if auth:
            request.auth.CopyFrom(api.AuthConfig(username=auth.username, password=auth.password))
        if pod:
            request.sandbox_config.CopyFrom(pod.config)
        return self._call("PullImage", request, api.PullImageResponse, timeout).image_ref

    def image_status(self, reference: str) -> Image | None:
        """Return what the runtime has under a name or ID, or None."""
        request = api.ImageStatusRequest(image=api.ImageSpec(image=reference))
        answer = self._call("ImageStatus", request, api.ImageStatusResponse)
        return messages.image(answer.image) if answer.image.id else None

    def list_images(self) -> list[Image]:
        """Return every image of the runtime."""
        answer = self._call("ListImages", api.ListImagesRequest(), api.ListImagesResponse)
        return [messages.image(found) for found in answer.images]

    def remove_image(self, reference: str) -> None:
        """Remove an image with all its names; none of that name is not an error."""
        request = api.RemoveImageRequest(image=api.ImageSpec(image=reference))
        self._call("RemoveImage", request, api.RemoveImageResponse)

    def run_pod(
        self,
        name: str = "",
        namespace: str = "default",
        *,
        handler: str = "",
        cgroup_parent: str = "",
        annotations: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Pod:
        """Start a pod sandbox.

        Args:
            name: its name; a unique one when empty.
            handler: the runtime handler; empty means the default one.
            cgroup_parent: instead of the client's.
            timeout: seconds.
        """
        uid = str(uuid.uuid4())
        name = name or f"pod-{uid[:8]}"
        logs = f"{self.log_directory}/{namespace}_{name}_{uid}" if self.log_directory else ""
        config = messages.pod_config(name, namespace, uid, logs, cgroup_parent or self.cgroup_parent, annotations or {})
        request = api.RunPodSandboxRequest(config=config, runtime_handler=handler)
        answer = self._call("RunPodSandbox", request, api.RunPodSandboxResponse, timeout)
        return Pod(answer.pod_sandbox_id, name, namespace, config)

    def list_pods(self) -> list[str]:
        """Return the IDs of all pods, running or not."""
        answer = self._call("ListPodSandbox", api.ListPodSandboxRequest(), api.ListPodSandboxResponse)
        return [item.id for item in answer.items]

    def remove_pod(self, pod_id: str) -> None:
        """Stop a pod with its containers and remove it; one that is gone is not an error."""
        self._call("StopPodSandbox", api.StopPodSandboxRequest(pod_sandbox_id=pod_id), api.StopPodSandboxResponse)
        self._call("RemovePodSandbox", api.RemovePodSandboxRequest(pod_sandbox_id=pod_id), api.RemovePodSandboxResponse)

    def remove_pods(self) -> int:
        """Remove every pod of the runtime and return how many there were.

        Raises:
            CriError: of a pod that stayed, after all were tried.
        """
        pods = self.list_pods()
        with contextlib.ExitStack() as removals:
            for pod_id in pods:
                removals.callback(self.remove_pod, pod_id)
        return len(pods)

    @contextlib.contextmanager
    def pod(self, name: str = "", namespace: str = "default", **options: Any) -> Iterator[Pod]:
        """Run a pod for the length of a ``with`` block; it is removed however the block ends."""
        pod = self.run_pod(name, namespace, **options)
        try:
            yield pod
        finally:
            self.remove_pod(pod.id)

    def create(self, pod: Pod, container: Container, timeout: float | None = None) -> str:
        """Create a container in a pod and return its ID."""
        request = api.CreateContainerRequest(
            pod_sandbox_id=pod.id,
            config=messages.container_config(container, logged=bool(self.log_directory)),
            sandbox_config=pod.config,
        )
        return self._call("CreateContainer", request, api.CreateContainerResponse, timeout).container_id

    def start(self, container_id: str, timeout: float | None = None) -> None:
        """Start a created container.

        Raises:
            CriError: also when the hook refuses; its sentence is in the message.
        """
        request = api.StartContainerRequest(container_id=container_id)
        self._call("StartContainer", request, api.StartContainerResponse, timeout)

    def run(self, pod: Pod, container: Container) -> str:
        """Create and start a container and return its ID."""
        container_id = self.create(pod, container)
        self.start(container_id)
        return container_id

    def status(self, container_id: str) -> Status:
        """Return a container's state."""
        request = api.ContainerStatusRequest(container_id=container_id)
        answer = self._call("ContainerStatus", request, api.ContainerStatusResponse)
        return messages.status(answer.status)

    def running_images(self, namespace: str) -> list[tuple[str, str]]:
        """Return the images of the containers that run in the pods of a Kubernetes namespace.

        Each is what was asked for (a name, or what the runtime shows) and what the runtime resolved it to.
        """
        request = api.ListContainersRequest(
            filter=api.ContainerFilter(
                state=api.ContainerStateValue(state=api.CONTAINER_RUNNING),
                label_selector={"io.kubernetes.pod.namespace": namespace},
            )
        )
        answer = self._call("ListContainers", request, api.ListContainersResponse)
        return [(each.image.user_specified_image or each.image.image, each.image_ref) for each in answer.containers]

    def logs(self, container_id: str) -> bytes:
        """Return the last 4 MiB of what a container wrote, both streams in order."""
        path = self.status(container_id).log_path
        return parse_log(self._read(path)[-LOG_LIMIT:]) if path else b""

    def exec_sync(self, container_id: str, argv: Sequence[str], timeout: int = 10) -> Exec:
        """Run a command in a running container and wait for it, ``timeout`` seconds at most."""
        request = api.ExecSyncRequest(container_id=container_id, cmd=argv, timeout=timeout)
        answer = self._call("ExecSync", request, api.ExecSyncResponse, timeout + 5)
        return Exec(answer.exit_code, answer.stdout, answer.stderr)

    def stop(self, container_id: str, grace: int = 0) -> None:
        """Stop a container: SIGTERM, and SIGKILL after ``grace`` seconds; one that is gone is not an error."""
        request = api.StopContainerRequest(container_id=container_id, timeout=grace)
        self._call("StopContainer", request, api.StopContainerResponse, grace + self._timeout)

    def remove(self, container_id: str) -> None:
        """Stop and remove a container; one that is gone is not an error."""
        request = api.RemoveContainerRequest(container_id=container_id)
        self._call("RemoveContainer", request, api.RemoveContainerResponse)
