"""What a user of a machine brings along: a registry with images, a key, a policy; nothing of it is the lab's."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.keys import files as keyfiles
from countersign.keys.pair import generate
from countersign.nodes.node import Node
from countersign.oci import layout
from countersign.oci.build import variant
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.tools.images import demo_layout, pause_layout
from countersign.tools.resolver import tool
from lab.trials.lab import write_archive
from signing import sign

NAME = "registry.own.test"
SIGNED, UNSIGNED = (f"{NAME}/team/{what}:v1" for what in ("signed", "unsigned"))
PAUSE = f"{NAME}/system/pause:v1"
CRIO_FILES = {
    "/etc/containers/policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}\n',
    "/etc/crio/crio.conf.d/50-own.conf": f'[crio.image]\npause_image = "{PAUSE}"\n',
    "/etc/containers/registries.conf.d/50-own.conf": f"""[[registry]]
prefix = "{NAME}"
location = "%s"
insecure = true
""",
    "/etc/containers/registries.d/own.yaml": 'docker: {"%s": {use-sigstore-attachments: true}}\n',
}
"""How a user leads a CRI-O to the registry, wherever it is on the machine."""
CERTS = f"/etc/containerd/certs.d/{NAME}"
LOGIN = {"auths": {"quay.io": {"auth": "dXNlcjpwYXNz"}}}


@dataclass(frozen=True)
class Own:
    """The user's files on this machine.

    Attributes:
        folder: policy.yaml, the public key beside it, and the Docker config.
        keys: an empty folder, in which a set-up of ours must make nothing.
        location: ``HOST:PORT`` of the registry on the machine.
    """

    folder: Path
    keys: Path
    location: str

    @property
    def environment(self) -> dict[str, str]:
        """How ``./inv`` is told of them."""
        return {
            "INVOKE_POLICY": str(self.folder / "policy.yaml"),
            "INVOKE_KEYS": str(self.keys),
            "INVOKE_REGISTRY_DOCKER_CONFIG": str(self.folder / "docker.json"),
            "INVOKE_REGISTRY_PROOF_IMAGE": SIGNED,
        }


@contextmanager
def own(settings: Settings, node: Node, folder: Path) -> Iterator[Own]:
    """Run the registry with a signed and an unsigned image, and lead the machine to it; the policy has its scope."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv: list[str | Path] = [
        tool("registry", settings),
        "--address",
        f"127.0.0.1:{port}",
        "--dir",
        folder / "registry",
    ]
    with subprocess.Popen(argv, env={"OTEL_TRACES_EXPORTER": "none"}, stderr=subprocess.DEVNULL) as registry:
        try:
            _wait(port)
            _fill(settings, folder, port)
            node.run(["mkdir", "-p", CERTS])
            url = node.expose(port)
            node.put(f'server = "{url}"\n'.encode(), f"{CERTS}/hosts.toml")
            made = Own(folder, folder / "keys", url.partition("://")[2])
            made.keys.mkdir()
            yield made
        finally:
            registry.terminate()
            node.run(["rm", "-rf", "--", CERTS])


BROUGHT = "/root/brought"
"""Where a node has the programs and the policy with which it installs itself."""


def bring_gate(settings: Settings, node: Node, users: Own, inv: Callable[..., object]) -> list[str]:
    """Put the gate, the hook, the policy and the login on the machine; return how it installs itself."""
    node.run(["mkdir", "-p", BROUGHT])
    for name in ("countersign-gate", "countersign-hook"):
        node.put(tool(name, settings), f"{BROUGHT}/{name}", 0o755)
    node.put(rendered(users, "", inv), f"{BROUGHT}/policy.json")
    node.put(json.dumps(LOGIN).encode(), f"{BROUGHT}/docker.json", 0o600)
    given = ["--policy", f"{BROUGHT}/policy.json", "--docker-config", f"{BROUGHT}/docker.json"]
    given += ["--runtime", "crio"]  # other tests leave a containerd on the machine
    return [f"{BROUGHT}/countersign-gate", "install", *given, "--image", SIGNED]


def rendered(users: Own, rule: str, inv: Callable[..., object]) -> Path:
    """Render the policy, with another rule for the images where one is given."""
    text = (users.folder / "policy.yaml").read_text()
    changed = users.folder / "changed.yaml"
    changed.write_text(text.replace("{anyOf: [own]}", rule) if rule else text)
    made = users.folder / "policy.json"
    inv("policy.render", "--policy", str(changed), "--out", str(made))
    return made


def bring_pause_image(settings: Settings, node: Node, name: str, folder: Path) -> None:
    """Have the machine's containerd hold its sandbox image, as one that has run pods does."""
    archive = folder / "pause.tar"
    write_archive(archive, {name: pause_layout(settings)})
    node.put(archive, "/tmp/pause.tar")
    node.run(["ctr", "-n", "k8s.io", "images", "import", "/tmp/pause.tar"])
    node.run(["rm", "/tmp/pause.tar"])


@contextmanager
def known_to_crio(node: Node, location: str) -> Iterator[None]:
    """Have the machine's CRI-O take images, and its sandbox image, from the registry."""
    for path, text in CRIO_FILES.items():
        node.run(["mkdir", "-p", path.rpartition("/")[0]])
        node.put((text % location if "%s" in text else text).encode(), path)
    node.run(["systemctl", "restart", "crio"])
    try:
        yield
    finally:
        node.run(["rm", "-f", *CRIO_FILES])
        node.run(["systemctl", "restart", "crio"])


def _fill(settings: Settings, folder: Path, port: int) -> None:
    (folder / "certs.d" / NAME).mkdir(parents=True)
    (folder / "certs.d" / NAME / "hosts.toml").write_text(f'server = "http://127.0.0.1:{port}"\n')
    client, key = Registry(folder / "certs.d"), generate()
    keyfiles.write(folder / "own", key, b"password")
    for image in (SIGNED, UNSIGNED):
        reference = parse(image)
        made = variant(demo_layout(settings), image, folder / reference.name.rpartition("/")[2])
        layout.push(client, reference.name, made, "v1")
    layout.push(client, parse(PAUSE).name, pause_layout(settings), "v1")
    for target in sign.targets(client, parse(SIGNED)):
        sign.sign(client, parse(SIGNED).name, target, key)
    (folder / "docker.json").write_text(json.dumps(LOGIN))
    (folder / "policy.yaml").write_text(
        "apiVersion: countersign/v1\ndefault: reject\nroots:\n  own: {publicKey: {files: [own.pub]}}\n"
        f"scopes:\n  {NAME}/team: {{anyOf: [own]}}\n"
    )


def _wait(port: int) -> None:
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the registry does not listen")
