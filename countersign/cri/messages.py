"""Between the plain values of `countersign.cri.model` and the messages of CRI."""

from __future__ import annotations

from collections.abc import Mapping

from countersign.cri.api import api_pb2 as api
from countersign.cri.model import Container, Image, Mount, Status

STATES = {
    api.ContainerState.CONTAINER_CREATED: "created",
    api.ContainerState.CONTAINER_RUNNING: "running",
    api.ContainerState.CONTAINER_EXITED: "exited",
}


def pod_config(
    name: str, namespace: str, uid: str, log_directory: str, cgroup_parent: str, annotations: Mapping[str, str]
) -> api.PodSandboxConfig:
    """Return a sandbox as the kubelet asks for one: own network and IPC, each container its own PIDs."""
    spaces = api.NamespaceOption(
        network=api.NamespaceMode.POD, pid=api.NamespaceMode.CONTAINER, ipc=api.NamespaceMode.POD
    )
    return api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(name=name, namespace=namespace, uid=uid),
        hostname=name[:63],
        log_directory=log_directory,
        annotations=annotations,
        linux=api.LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent,
            security_context=api.LinuxSandboxSecurityContext(namespace_options=spaces),
        ),
    )


def container_config(container: Container, logged: bool) -> api.ContainerConfig:
    """Return the message that creates ``container``; ``logged`` gives it a file in its pod's log folder."""
    written = container.image if container.written is None else container.written
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name=container.name, attempt=container.attempt),
        image=api.ImageSpec(image=container.image, user_specified_image=written),
        command=container.command,
        args=container.args,
        envs=[api.KeyValue(key=key, value=value.encode()) for key, value in container.env.items()],
        mounts=[mount(wanted) for wanted in container.mounts],
        annotations=container.annotations,
        log_path=f"{container.name}_{container.attempt}.log" if logged else "",
        linux=api.LinuxContainerConfig(
            security_context=api.LinuxContainerSecurityContext(
                namespace_options=api.NamespaceOption(pid=api.NamespaceMode.CONTAINER)
            )
        ),
    )


def mount(wanted: Mount) -> api.Mount:
    """Return the message of one mount; an image volume is always read-only."""
    if not wanted.image:
        return api.Mount(container_path=wanted.path, host_path=wanted.host, readonly=not wanted.writable)
    written = wanted.image_written or wanted.image
    image = api.ImageSpec(image=wanted.image, user_specified_image=written, image_ref=wanted.image)
    return api.Mount(container_path=wanted.path, image=image, readonly=True)


def image(found: api.Image) -> Image:
    """Return a runtime's image as a plain value."""
    return Image(found.id, tuple(found.repo_tags), tuple(found.repo_digests), found.size, found.pinned)


def status(found: api.ContainerStatus) -> Status:
    """Return a container's state as a plain value."""
    return Status(
        id=found.id,
        state=STATES.get(found.state, "unknown"),
        exit_code=found.exit_code,
        image=found.image.image,
        image_ref=found.image_ref,
        reason=found.reason,
        message=found.message,
        log_path=found.log_path,
    )
