"""The demo's registries for a cluster: two containers on its Docker network, under the names that images have.

What they hold outlives them in volumes. They are published on this machine's loopback too, for our own client.
"""

from __future__ import annotations

import hashlib
import io
import json
import socket
import ssl
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.nodes.files import sha256
from kind.cluster import folder
from lab.demo import registries
from lab.demo.registries import FALLBACK, REFERRERS, Registries

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "countersign.demo-registry"
SPEC = "countersign.spec"
DATA = "/data"
ETC = "/etc/registry"
PORTS = {REFERRERS: 80, FALLBACK: 443}
ALIASES = {REFERRERS: (REFERRERS,), FALLBACK: (FALLBACK,)}
READY = 20.0
URLS = {
    REFERRERS: f"http://{REFERRERS}",
    FALLBACK: f"https://{FALLBACK}",
}
"""Registry name → where the cluster's nodes reach it."""


def load_or_make(settings: Settings) -> Registries:
    """Return the registries' credentials and certificates of an earlier set-up, or new ones; writes nothing."""
    return registries.load_or_make(folder(settings) / "registry")


def urls_for_host(made: Registries) -> dict[str, str]:
    """Return registry name → where this machine reaches it."""
    return {REFERRERS: made.url(REFERRERS), FALLBACK: made.url(FALLBACK)}


@dataclass(frozen=True)
class Runs:
    """A registry runs as a container on the cluster's network.

    Attributes:
        host: its name in image references.
        cluster: the cluster's name; the container's name begins with it.
        made: credentials and certificates.
        network: the cluster's Docker network.
        client: opens a client of the Docker Engine.
    """

    host: str
    cluster: str
    made: Registries = field(repr=False)
    program: Path
    network: str
    client: Callable[[], DockerClient] = field(repr=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"registry {self.host}"

    @property
    def container(self) -> str:
        """The container's name, and its volume's."""
        return f"{self.cluster}-{registries.SERVICES[self.host]}"

    def needed(self) -> bool:
        """Return whether it does not run, or as something else."""
        found = _find(self.client(), self.container)
        return found is None or found.status != "running" or found.labels.get(SPEC) != self._digest()

    def apply(self) -> None:
        """Start it, in place of the one that is there.

        Raises:
            InfrastructureError: the engine refuses, or it does not listen in time.
        """
        from docker.errors import DockerException

        client = self.client()
        try:
            old = _find(client, self.container)
            if old:
                old.remove(force=True)
            self._start(client)
        except DockerException as error:
            raise InfrastructureError(f"the Docker Engine refused: {error}", where=self.container) from None
        self._await()

    def _start(self, client: DockerClient) -> None:
        container = client.containers.create(
            self._image(client),
            command=list(self._command()),
            name=self.container,
            labels={LABEL: self.cluster, SPEC: self._digest()},
            ports={f"{PORTS[self.host]}/tcp": ("127.0.0.1", self.made.ports[self.host])},
            volumes={self.container: {"bind": DATA, "mode": "rw"}},
            environment={"OTEL_TRACES_EXPORTER": "none"},
            restart_policy={"Name": "unless-stopped"},
            network=self.network,
            networking_config={self.network: client.api.create_endpoint_config(aliases=list(ALIASES[self.host]))},
        )
        try:
            container.put_archive("/", _archive(self._files()))
            container.start()
        except BaseException:
            container.remove(force=True)
            raise

    def _command(self) -> Sequence[str]:
        if self.host == REFERRERS:
            secure = (
                "--tls-address",
                "0.0.0.0:443",
                "--certificate",
                f"{ETC}/server.crt",
                "--key",
                f"{ETC}/server.key",
            )
            return ("--address", f"0.0.0.0:{PORTS[self.host]}", "--any-address", "--dir", DATA, *secure)
        return ("serve", f"{ETC}/fallback.yaml")

    def _files(self) -> Mapping[str, tuple[bytes, int]]:
        if self.host == REFERRERS:
            identity = self.made.identity
            return {f"{ETC}/server.crt": (identity.certificate, 0o644), f"{ETC}/server.key": (identity.key, 0o600)}
        made = registries.server_files(self.made, ETC, f"0.0.0.0:{PORTS[self.host]}", DATA)
        return {file.path: (bytes(file.content), file.mode) for file in made if isinstance(file.content, bytes)}

    def _digest(self) -> str:
        files = {path: hashlib.sha256(content).hexdigest() for path, (content, _) in self._files().items()}
        spec: dict[str, Any] = {
            "command": self._command(),
            "files": files,
            "program": sha256(self.program),
            "port": self.made.ports[self.host],
        }
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()

    def _image(self, client: DockerClient) -> str:
        """Return an image of nothing but the program, made in the engine if need be."""
        from docker.errors import ImageNotFound

        repository, tag = "countersign/demo-registry", sha256(self.program)[:12]
        try:
            client.images.get(f"{repository}:{tag}")
        except ImageNotFound:
            content = _archive({"/registry": (self.program.read_bytes(), 0o755), "/tmp/.keep": (b"", 0o644)})  # noqa: S108
            changes = ['ENTRYPOINT ["/registry"]']
            client.api.import_image_from_data(content, repository=repository, tag=tag, changes=changes)
        return f"{repository}:{tag}"

    def _await(self) -> None:
        deadline = time.monotonic() + READY
        while not self._answers():
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"does not answer after {READY:g} s", where=self.name, do=f"see docker logs {self.container}"
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Return whether it speaks HTTP; the port alone says nothing, for Docker's own proxy listens there."""
        try:
            with ExitStack() as opened:
                address = ("127.0.0.1", self.made.ports[self.host])
                talk: socket.socket = opened.enter_context(socket.create_connection(address, 1))
                if self.host == FALLBACK:
                    trust = ssl.create_default_context(cadata=self.made.identity.ca.decode())
                    talk = opened.enter_context(trust.wrap_socket(talk, server_hostname=FALLBACK))
                talk.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
                return talk.recv(5) == b"HTTP/"
        except OSError:
            return False


@contextmanager
def stopped(client: DockerClient, cluster: str, host: str) -> Iterator[None]:
    """Keep a registry stopped."""
    container = client.containers.get(f"{cluster}-{registries.SERVICES[host]}")
    container.stop(timeout=2)
    try:
        yield
    finally:
        container.start()


def runs(client: DockerClient, cluster: str, host: str) -> bool:
    """Return whether a registry runs."""
    found = _find(client, f"{cluster}-{registries.SERVICES[host]}")
    return found is not None and found.status == "running"


def remove(client: DockerClient, cluster: str) -> None:
    """Remove a cluster's registries with all that they hold."""
    for container in client.containers.list(all=True, filters={"label": f"{LABEL}={cluster}"}):
        container.remove(force=True)
    ours = {f"{cluster}-{service}" for service in registries.SERVICES.values()}
    for volume in client.volumes.list():
        if volume.name in ours:
            volume.remove()


def _find(client: DockerClient, name: str) -> Container | None:
    from docker.errors import NotFound

    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _archive(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
