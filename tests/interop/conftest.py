"""The real cosign and two real registries: one with the referrers API, one without it behind TLS and a login."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
from invoke.config import Config
from invoke.context import Context
from jinja2 import StrictUndefined, Template

from countersign.console.config import ROOT, Settings, settings_from
from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.keys import tls
from countersign.oci.registry import Registry
from countersign.tools.resolver import tool
from signing.verify import Access

HERE = Path(__file__).parent
PASSWORD = "of the interop tests"
LOGIN = ("me", "secret")
OFFLINE = ("--signing-config", str(HERE / "empty-signing-config.json"))
ATTACHMENT = ("--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false")


@dataclass(frozen=True)
class Lab:
    """A registry, our client of it, and what the gate and cosign need to reach it."""

    netloc: str
    client: Registry
    access: Access
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Cosign:
    """The real cosign, in an environment of its own."""

    program: Path
    home: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run cosign without the network's services, and without any configuration of the user."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "DOCKER_CONFIG": str(self.home),
            "COSIGN_PASSWORD": PASSWORD,
            "NO_PROXY": "127.0.0.1",
        }
        argv = [str(self.program), *arguments]
        return subprocess.run(
            argv, env=environment, cwd=self.home, capture_output=True, text=True, timeout=120, check=False
        )

    def sign(self, lab: Lab, image: str, key: Path, how: Sequence[str]) -> None:
        """Sign an image; fails the test if cosign cannot."""
        done = self.run("sign", "--yes", "--key", str(key), *how, *lab.flags, image)
        assert done.returncode == 0, done.stderr

    def verify(self, lab: Lab, image: str, key: Path, *how: str) -> subprocess.CompletedProcess[str]:
        """Verify an image's signatures under a public key."""
        return self.run("verify", "--key", str(key), "--insecure-ignore-tlog", *how, *lab.flags, image)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The configuration of this checkout."""
    config = Config(project_location=ROOT)
    config.load_project()
    config.load_shell_env()
    return settings_from(Context(config))


@pytest.fixture(scope="session")
def cosign(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    return Cosign(tool("cosign", settings), tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="session")
def our_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key pair that we made: private and public file."""
    return keyfiles.write(tmp_path_factory.mktemp("ours") / "ours", keys.generate(), PASSWORD.encode())


@pytest.fixture(scope="session")
def cosigns_key(cosign: Cosign) -> tuple[Path, Path]:
    """A key pair that cosign made: private and public file."""
    done = cosign.run("generate-key-pair", "--output-key-prefix", "theirs")
    assert done.returncode == 0, done.stderr
    return keyfiles.files(cosign.home / "theirs")


@pytest.fixture(scope="session", params=["referrers", "fallback"])
def lab(
    request: pytest.FixtureRequest, settings: Settings, cosign: Cosign, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """Each of the two registries."""
    folder, netloc = tmp_path_factory.mktemp(request.param), free_netloc()
    if request.param == "referrers":
        argv = [str(tool("registry", settings)), "--address", netloc, "--dir", str(folder)]
        with running(argv, netloc):
            yield Lab(netloc, Registry(), Access(), ("--allow-http-registry",))
        return
    write_fallback(folder, netloc)
    (cosign.home / "config.json").write_text((folder / "config.json").read_text())
    argv = [str(tool("registry-fallback", settings)), "serve", str(folder / "config.yml")]
    with running(argv, netloc):
        client = Registry(folder / "certs.d", folder / "config.json")
        access = Access(folder / "certs.d", [folder / "config.json"])
        yield Lab(netloc, client, access, ("--registry-cacert", str(folder / "ca.pem")))


def write_fallback(folder: Path, netloc: str) -> None:
    """Write what the registry without API serves with, and what its clients need."""
    identity = tls.make(["127.0.0.1"])
    (folder / "ca.pem").write_bytes(identity.ca)
    (folder / "tls.pem").write_bytes(identity.certificate)
    (folder / "tls.key").write_bytes(identity.key)
    user, password = LOGIN
    (folder / "htpasswd").write_text(f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")
    template = Template((HERE / "registry-fallback.yaml.j2").read_text(), undefined=StrictUndefined)
    (folder / "config.yml").write_text(template.render(folder=folder, netloc=netloc))
    hosts = folder / "certs.d" / netloc
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'server = "https://{netloc}"\nca = "{folder}/ca.pem"\n')
    login = {"auths": {netloc: {"username": user, "password": password}}}
    (folder / "config.json").write_text(json.dumps(login))


def free_netloc() -> str:
    """Return a loopback address that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


@contextmanager
def running(argv: list[str], netloc: str) -> Iterator[None]:
    """Run a server until the block ends; it must listen within ten seconds."""
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not listens(netloc):
            assert server.poll() is None, f"{argv[0]} ended with {server.returncode}"
            assert time.monotonic() < end, f"{argv[0]} does not listen on {netloc}"
            time.sleep(0.02)
        yield
    finally:
        server.terminate()
        server.wait(10)


def listens(netloc: str) -> bool:
    host, _, port = netloc.partition(":")
    with socket.socket() as one:
        return one.connect_ex((host, int(port))) == 0
