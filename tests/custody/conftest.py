"""Places that keep keys, for real: SoftHSM's library and OpenBao's program, each with folders of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from invoke.config import Config
from invoke.context import Context, MockContext

from countersign.console.config import ROOT, Settings, settings_from
from countersign.tools.resolver import tool
from tests.fake_registry import FakeRegistry, serving
from tests.interop.conftest import free_netloc, running

PIN = "123456"
TOKEN = "custody"
ROOT_TOKEN = "of-the-tests"
_MODULE = Path("usr/lib/softhsm/libsofthsm2.so")


@dataclass(frozen=True)
class Hsm:
    """A token with two keys: ``ec`` and ``rsa``."""

    module: Path

    def uri(self, key: str, pin: Path, token: str = TOKEN) -> str:
        """Return a key's URI."""
        return f"pkcs11:token={token};object={key}?module-path={self.module}&pin-source=file:{pin}"


@dataclass(frozen=True)
class Vault:
    """An OpenBao with two keys in its transit engine: ``ec`` and ``rsa``."""

    address: str

    def client(self) -> object:
        """Return a client of it, as root."""
        import hvac

        return hvac.Client(self.address, ROOT_TOKEN)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The configuration of this checkout."""
    config = Config(project_location=ROOT)
    config.load_project()
    config.load_shell_env()
    return settings_from(Context(config))


@pytest.fixture(scope="session")
def softhsm(settings: Settings) -> Path:
    """Where SoftHSM lies: the machine's own, else Debian's packages, unpacked in the cache."""
    if Path("/", _MODULE).is_file() and shutil.which("softhsm2-util"):
        return Path("/")
    return unpacked(settings, "softhsm", ("softhsm2", "libsofthsm2"))


@pytest.fixture(scope="session")
def skopeo(settings: Settings) -> tuple[Path, Mapping[str, str]]:
    """Skopeo and its environment: the machine's own, else Debian's, unpacked in the cache."""
    if own := shutil.which("skopeo"):
        return Path(own), os.environ
    folder = unpacked(settings, "skopeo", ("skopeo", "libgpgme11", "libassuan0"))
    libraries = ":".join(str(path) for path in (folder / "usr/lib").glob("*-linux-gnu*"))
    return folder / "usr/bin/skopeo", {**os.environ, "LD_LIBRARY_PATH": libraries}


def unpacked(settings: Settings, name: str, packages: Sequence[str]) -> Path:
    """Return a folder with the content of Debian packages, which are not installed; skips where they cannot be had."""
    folder = settings.cache / name
    if (folder / "usr").is_dir():
        return folder
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip(f"there is no {name}, and no apt-get to get it: apt-get install {packages[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    got = subprocess.run(["apt-get", "download", *packages], cwd=folder, capture_output=True, timeout=120, check=False)
    if got.returncode:
        pytest.skip(f"{name} cannot be had: {got.stderr.decode(errors='replace').strip()[-200:]}")
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, timeout=60)
    return folder


@pytest.fixture(scope="session")
def hsm(softhsm: Path, tmp_path_factory: pytest.TempPathFactory) -> Hsm:
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")  # read once, when this process loads the library
    program, module = softhsm / "usr/bin/softhsm2-util", softhsm / _MODULE

    def util(*words: str) -> None:
        argv = [str(program), "--module", str(module), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    util("--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", "87654321")
    made: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    for number, (name, key) in enumerate(made.items(), 1):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "key.pem").write_bytes(pem)
        util("--import", f"{folder}/key.pem", "--token", TOKEN, "--label", name, "--id", f"0{number}", "--pin", PIN)
        (folder / "key.pem").unlink()
    return Hsm(module)


@pytest.fixture(scope="session")
def vault(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("bao")
    argv = [str(tool("bao", settings)), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT_TOKEN}"]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*argv, f"-dev-listen-address=127.0.0.1:{port}"], env=environment, stdout=log, stderr=log
        )
    try:
        found = Vault(f"http://127.0.0.1:{port}")
        _until_up(found, process, home / "log")
        yield found
    finally:
        process.terminate()
        process.wait(20)


def _until_up(vault: Vault, process: subprocess.Popen[bytes], log: Path) -> None:
    import hvac
    import requests

    client = hvac.Client(vault.address, ROOT_TOKEN)
    end = time.monotonic() + 60
    while True:
        try:
            client.sys.enable_secrets_engine("transit")
            break
        except (requests.RequestException, hvac.exceptions.VaultError):
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"OpenBao did not come up: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
    client.secrets.transit.create_key("ec", key_type="ecdsa-p256")
    client.secrets.transit.create_key("rsa", key_type="rsa-2048")


@pytest.fixture(scope="session")
def netloc(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry, where the gate finds what was signed."""
    where = free_netloc()
    argv = [str(tool("registry", settings)), "--address", where, "--dir", str(tmp_path_factory.mktemp("registry"))]
    with running(argv, where):
        yield where


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry on loopback."""
    with serving() as server:
        yield server


@pytest.fixture
def context(tmp_path: Path) -> MockContext:
    """A configuration with its own keys and state."""
    overrides: Mapping[str, str] = {"keys": str(tmp_path / "keys"), "state": str(tmp_path / "state")}
    return MockContext(config=Config(overrides=dict(overrides)))
