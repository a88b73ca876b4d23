"""The demo's two registries on this machine's loopback, under names of their own.

``registry.countersign.test`` has the referrers API and speaks plain HTTP; ``fallback.countersign.test``
has no such API, and wants TLS under a CA of its own and a password. Docker Hub is mapped to the
first one as well: short names are tried without leaving this machine.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.console.steps import Step
from countersign.cri.model import Auth
from countersign.enforcement.layout import Layout
from countersign.enforcement.reach import hosts_file
from countersign.keys import tls
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Running
from countersign.nodes.template import render

REFERRERS = "registry.countersign.test"
FALLBACK = "fallback.countersign.test"
MAPPED = (REFERRERS, "docker.io")
"""The names under which the registry with the referrers API is known."""
USER = "demo"
HERE = Path(__file__).resolve().parent
SERVICES = {REFERRERS: "registry", FALLBACK: "registry-fallback"}
CERTIFIED = (FALLBACK, REFERRERS, "localhost", "127.0.0.1")
"""Names in the certificate; clients that read nothing over plain HTTP reach the first registry by TLS, too."""


@dataclass(frozen=True)
class Registries:
    """Everything about both registries; made once, then read back from ``folder``.

    Attributes:
        folder: ``<state>/host/registry``.
        ports: registry name → loopback port.
        password: of the user ``demo`` of the registry with authentication.
        secret: its secret for upload tokens.
    """

    folder: Path
    ports: Mapping[str, int]
    password: str = field(repr=False)
    htpasswd: bytes = field(repr=False)
    secret: str = field(repr=False)
    identity: tls.ServerIdentity = field(repr=False)

    @property
    def ca(self) -> str:
        """The CA's certificate on disk."""
        return str(self.folder / "ca.crt")

    @property
    def logins(self) -> Mapping[str, Auth]:
        """Registry name → what is needed there; only one of the registries wants any."""
        return {FALLBACK: Auth(USER, self.password)}

    def url(self, name: str) -> str:
        """Return where a registry really is."""
        return f"{'https' if name == FALLBACK else 'http'}://127.0.0.1:{self.ports[name]}"


def load_or_make(folder: Path) -> Registries:
    """Return the registries of an earlier set-up, or new ones; writes nothing.

    A certificate that lacks a name is made anew, under a new CA.

    Raises:
        InfrastructureError: what was kept of them cannot be read.
    """
    state = folder / "registries.json"
    if not state.is_file():
        return _make(folder)
    try:
        kept = json.loads(state.read_text(encoding="utf-8"))
    except ValueError:  # cut off, by a full disk or a machine that went down
        do = "remove it: the next set-up makes new registries"
        raise InfrastructureError("cannot be read", where=str(state), expected="what set-up wrote", do=do) from None
    identity = tls.ServerIdentity(*(kept["tls"][name].encode() for name in ("ca", "certificate", "key")))
    return Registries(
        folder,
        kept["ports"],
        kept["password"],
        kept["htpasswd"].encode(),
        kept["secret"],
        identity if tls.covers(identity, CERTIFIED) else tls.make(CERTIFIED),
    )


def _make(folder: Path) -> Registries:
    import bcrypt

    password = secrets.token_urlsafe(18)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=8, prefix=b"2a"))
    return Registries(
        folder=folder,
        ports=dict(zip((REFERRERS, FALLBACK), _free_ports(2), strict=True)),
        password=password,
        htpasswd=f"{USER}:{hashed.decode()}\n".encode(),
        secret=secrets.token_hex(16),
        identity=tls.make(CERTIFIED),
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def check_ports(registries: Registries, run: Path) -> None:
    """Raise InfrastructureError when someone else listens on a port of a registry that does not run."""
    for name, port in registries.ports.items():
        if service.state(run, SERVICES[name]).child:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise InfrastructureError(
                    f"port {port} of the registry {name} is taken ({error.strerror})",
                    where=f"127.0.0.1:{port}",
                    do="free it, or run containerd.clean and set up again with another one",
                ) from None


def files(registries: Registries, layout: Layout) -> list[File]:
    """Return the files of both registries on this machine, and the hosts.toml files that lead to them."""
    folder = str(registries.folder)
    return [
        kept(registries),
        *server_files(registries, folder, f"127.0.0.1:{registries.ports[FALLBACK]}", f"{folder}/fallback"),
        *(hosts_file(HOST, layout.certs, name, registries.url(REFERRERS)) for name in MAPPED),
        hosts_file(HOST, layout.certs, FALLBACK, registries.url(FALLBACK), registries.ca),
    ]


def kept(registries: Registries) -> File:
    """Return the file from which `load_or_make` reads them back."""
    identity = registries.identity
    document = {
        "ports": dict(registries.ports),
        "password": registries.password,
        "htpasswd": registries.htpasswd.decode(),
        "secret": registries.secret,
        "tls": {"ca": identity.ca.decode(), "certificate": identity.certificate.decode(), "key": identity.key.decode()},
    }
    content = (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
    return File(HOST, str(registries.folder / "registries.json"), content, 0o600)


def server_files(registries: Registries, folder: str, address: str, data: str) -> list[File]:
    """Return what the registry with authentication needs in ``folder``.

    Args:
        folder: where it finds these files.
        address: ``HOST:PORT`` that it listens on.
        data: where it keeps what it is given.
    """
    identity = registries.identity
    config = render(
        HERE / "registry-fallback.yaml.j2",
        data=data,
        address=address,
        secret=registries.secret,
        certificate=f"{folder}/server.crt",
        key=f"{folder}/server.key",
        htpasswd=f"{folder}/htpasswd",
    )
    return [
        File(HOST, f"{folder}/ca.crt", identity.ca),
        File(HOST, f"{folder}/server.crt", identity.certificate),
        File(HOST, f"{folder}/server.key", identity.key, 0o600),
        File(HOST, f"{folder}/htpasswd", registries.htpasswd, 0o600),
        File(HOST, f"{folder}/fallback.yaml", config, 0o600),
    ]


def services(registries: Registries, layout: Layout, cgroup: str, programs: Mapping[str, Path]) -> dict[str, Service]:
    """Return registry name → the service that is this registry.

    Args:
        layout: where logs and run files go.
        programs: tool name (``registry``, ``registry-fallback``) → its file.
    """
    folder = registries.folder
    address = f"127.0.0.1:{registries.ports[REFERRERS]}"
    argv = {
        REFERRERS: ("--address", address, "--dir", str(folder / "referrers")),
        FALLBACK: ("serve", str(folder / "fallback.yaml")),
    }
    inputs = {file.path: file.digest() for file in files(registries, layout) if file.path.startswith(f"{folder}/")}
    return {
        host: Service(
            name=name,
            argv=(str(programs[name]), *argv[host]),
            run=layout.run,
            log=f"{layout.log}/{name}.log",
            env={"HOME": str(folder), "OTEL_TRACES_EXPORTER": "none"},
            ready=f"tcp:127.0.0.1:{registries.ports[host]}",
            cgroup=cgroup,
            inputs=inputs,
        )
        for host, name in SERVICES.items()
    }


def steps(registries: Registries, layout: Layout, running: Mapping[str, Service]) -> list[Step]:
    """Return the steps that make both registries run and known under their names."""
    folders = [
        *(Folder(HOST, str(folder), 0o700) for folder in (registries.folder, registries.folder / "fallback")),
        *(Folder(HOST, f"{layout.certs}/{name}") for name in (*MAPPED, FALLBACK)),
    ]
    return [
        Group(
            HOST,
            f"configuration of the demo's registries ({registries.folder})",
            [*folders, *files(registries, layout)],
        ),
        *(Running(each) for each in running.values()),
    ]


@contextmanager
def stopped(run: Path, name: str) -> Iterator[None]:
    """Keep the registry of a name stopped; ``run`` is where the supervisors keep their files."""
    spec = Service.from_json((run / f"{SERVICES[name]}.json").read_text(encoding="utf-8"))
    service.stop(run, SERVICES[name])
    try:
        yield
    finally:
        service.start(spec)
