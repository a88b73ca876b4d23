"""What a CRI client is given and gives back, as plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.cri.api import api_pb2 as api


@dataclass(frozen=True)
class Version:
    """A runtime's name (``containerd``, ``cri-o``) and version."""

    runtime: str
    version: str


@dataclass(frozen=True)
class Auth:
    """A user name and password for one pull."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Image:
    """An image of the runtime.

    Attributes:
        id: the digest of its config, ``sha256:<64 hex>``.
        size: bytes on disk, as the runtime counts them.
        pinned: never collected as garbage.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    pinned: bool


@dataclass(frozen=True)
class Pod:
    """A pod sandbox that runs; ``config`` is what it was made from and what its containers need again."""

    id: str
    name: str
    namespace: str
    config: api.PodSandboxConfig = field(repr=False)


@dataclass(frozen=True)
class Mount:
    """One mount of a container: a folder of the node, or an image (a Kubernetes image volume).

    Attributes:
        path: where it appears in the container.
        host: the folder of the node; empty when ``image`` is given.
        image: the image whose file system appears there, as the runtime knows it.
        image_written: what the user wrote for that image; the same as ``image`` when empty.
        writable: host folders only.
    """

    path: str
    host: str = ""
    image: str = ""
    image_written: str = ""
    writable: bool = False


@dataclass(frozen=True)
class Status:
    """A container's state.

    Attributes:
        state: ``created``, ``running``, ``exited`` or ``unknown``.
        exit_code: of the container's process, once it exited.
        image: the image as the runtime shows it.
        image_ref: the runtime's reference of the image that it resolved to.
        reason: a word for why it exited, such as ``Completed`` or ``StartError``.
        message: the runtime's words about a failure.
        log_path: the log file on the node; empty when there is none.
    """

    id: str
    state: str
    exit_code: int
    image: str
    image_ref: str
    reason: str
    message: str
    log_path: str


@dataclass(frozen=True)
class Exec:
    """What a command run inside a container left."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Container:
    """What to create in a pod.

    Attributes:
        image: what the runtime looks up, as the kubelet gives it: the image ID that a pull
            returned, or any name the runtime knows.
        written: what the user wrote (``user_specified_image``); the same as ``image`` when None.
            An empty text leaves the field empty, as old clients do.
        name: unique in its pod.
        command: replaces the image's entry point when not empty.
        args: replaces the image's arguments when not empty.
        env: added to the image's environment.
        mounts: host folders and image volumes.
        annotations: of the container, as CRI passes them on.
        attempt: how often it was started before.
    """

    image: str
    written: str | None = None
    name: str = "main"
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 0


LOG_LINE = re.compile(rb"^\S+ (?P<stream>stdout|stderr) (?P<tags>\S+) (?P<text>.*)$", re.DOTALL)


def parse_log(content: bytes) -> bytes:
    """Return what a container wrote, both streams in order, from a log file of the kubelet's format.

    Each line is ``TIME STREAM TAG TEXT``; the tag ``P`` marks a line that goes on in the next one
    (Kubernetes' CRI logging design). Lines of another form are kept as they are.
    """
    out = bytearray()
    for line in content.splitlines(keepends=True):
        match = LOG_LINE.match(line)
        if not match:
            out += line
            continue
        partial = b"P" in match["tags"].split(b":")
        out += match["text"].removesuffix(b"\n") if partial else match["text"]
    return bytes(out)
