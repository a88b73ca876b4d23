"""Kyverno's own engine, on its command line, and a registry that it reaches as it does in a cluster: by TLS."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from invoke.config import Config
from invoke.context import Context

from countersign.console.config import ROOT, Settings, settings_from
from countersign.keys import pair, tls
from countersign.oci.descriptor import Descriptor
from countersign.oci.registry import Registry
from countersign.policy import gate, kyverno
from countersign.policy.load import load
from countersign.tools.resolver import tool
from signing.verify import Access, by_policy, program, verify
from tests.images import push_image
from tests.interop.conftest import free_netloc, running

RENDERERS = {"kyverno": kyverno.render, "kyverno-verifyimages": kyverno.render_verify_images}
ALLOWED = "allowed"


@dataclass(frozen=True)
class World:
    """A registry, keys by name, and the programs.

    Attributes:
        netloc: of the registry.
        client: ours.
        keys: ``team`` and ``other``.
        folder: has their public keys, and takes what a test writes.
    """

    settings: Settings
    netloc: str
    client: Registry
    keys: Mapping[str, pair.PrivateKey]
    folder: Path

    def image(self) -> tuple[str, Descriptor]:
        """Push an image of its own; return its repository."""
        name = f"{self.netloc}/app/{uuid.uuid4().hex}"
        return name, push_image(self.client, name, "v1", name)

    def policy(self, name: str, rule: str, more: str = "") -> Path:
        """Write a policy with one scope beside the roots ``team`` and ``other``."""
        path = self.folder / "policy.yaml"
        path.write_text(
            "apiVersion: countersign/v1\ndefault: reject\nroots:\n"
            + "".join(f"  {each}: {{publicKey: {{files: [{each}.pub]}}}}\n" for each in self.keys)
            + f"{more}scopes:\n  {name}: {rule}\n"
        )
        return path

    def gate(self, policy: Path, image: str) -> str:
        """Return the gate's code."""
        rendered = self.folder / "policy.json"
        rendered.write_bytes(gate.render(load(policy)))
        access = Access(self.folder / "certs.d")
        found = verify(program(self.settings), image, by_policy(rendered), access)
        return ALLOWED if found["allow"] else found["code"]

    def kyverno(self, document: bytes, image: str) -> str:
        """Return what the engine says to a pod: ``allowed``, or why not."""
        (self.folder / "kyverno.yaml").write_bytes(document)
        containers = [{"name": "one", "image": image}]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "default"}}
        (self.folder / "pod.yaml").write_text(yaml.safe_dump({**pod, "spec": {"containers": containers}}))
        argv = [str(tool("kyverno-cli", self.settings)), "apply", "kyverno.yaml", "--resource", "pod.yaml"]
        argv += ["--registry", "--policy-report", "--output-format", "json"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SSL_CERT_FILE": str(self.folder / "ca.pem"),
        }
        done = subprocess.run(
            argv, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        report = json.loads(done.stdout[done.stdout.index("{") :]) if "{" in done.stdout else {}
        results = report.get("results") or [{"result": "none", "message": done.stdout + done.stderr}]
        refused = [each["message"] for each in results if each["result"] != "pass"]
        return "; ".join(refused) or ALLOWED


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The registry is up while the tests run."""
    config = Config(project_location=ROOT)
    config.load_project()
    config.load_shell_env()
    settings = settings_from(Context(config))
    folder = tmp_path_factory.mktemp("kyverno")
    plain, netloc = free_netloc(), free_netloc()
    identity = tls.make(["127.0.0.1"])
    for name, content in (("ca", identity.ca), ("tls", identity.certificate), ("key", identity.key)):
        (folder / f"{name}.pem").write_bytes(content)
    hosts = folder / "certs.d" / netloc
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'server = "https://{netloc}"\nca = "{folder}/ca.pem"\n')
    keys = {name: pair.generate() for name in ("team", "other")}
    for name, key in keys.items():
        (folder / f"{name}.pub").write_text(key.public.pem)
    (folder / "data").mkdir()
    argv = [str(tool("registry", settings)), "--address", plain, "--dir", str(folder / "data")]
    argv += ["--tls-address", netloc, "--certificate", str(folder / "tls.pem"), "--key", str(folder / "key.pem")]
    with running(argv, plain):
        yield World(settings, netloc, Registry(folder / "certs.d"), keys, folder)
