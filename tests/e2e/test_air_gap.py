"""An image and what signs it are carried to a node with no way out: refused without evidence, allowed with it.

The node is a private containerd under enforcement in a network namespace of its own; the registry is not in it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from containerd.instance import instance
from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.cri.errors import CriError
from countersign.keys import pair as keys
from countersign.nodes import service
from countersign.nodes.waiting import wait_for
from countersign.oci import layout as layouts
from countersign.oci.build import variant
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.tools.images import demo_layout
from countersign.tools.resolver import tool
from signing import sign
from tests.interop.conftest import free_netloc, running
from tests.starts import opened

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from lab.trials.cri_place import CriPlace

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]
IMAGES = ("carried", "left")
"""Both are signed alike and carried; evidence is brought of the first alone."""
POLICY = """apiVersion: countersign/v1
default: reject
roots: {{team: {{publicKey: {{files: [team.pub]}}}}}}
scopes: {{{netloc}/gap: {{anyOf: [team]}}}}
"""


@dataclass(frozen=True)
class Node:
    """The node, and what was carried to it.

    Attributes:
        settings: with its state folder.
        inside: runs a command in its network namespace.
        place: its runtime.
        names: image → repository.
        carried: what came by hand: an archive for each image, and ``evidence.tar``.
    """

    settings: Settings
    inside: Sequence[str]
    place: CriPlace
    names: dict[str, str]
    carried: Path

    def inv(self, task: str, *options: str) -> dict[str, Any]:
        return inv(self.settings, task, *options, inside=self.inside)

    def start(self, image: str) -> str:
        """Start a container as the kubelet does; return the code of the refusal, or ``OK``."""
        reference = f"{self.names[image]}:v1"
        wait_for(lambda: bool(self.place.image_id(reference)), f"CRI does not learn of {reference}")
        container = ""
        try:
            container = self.place.create(self.place.image_id(reference), reference)
            self.place.start(container)
        except CriError as error:
            return self.place.code_of(error.message) or error.message
        finally:
            if container:
                self.place.remove(container)
        return "OK"

    def becomes(self, image: str, code: str) -> None:
        """Wait until a start comes out so: an absence is remembered for a second."""
        wait_for(lambda: self.start(image) == code, f"{image} does not become {code}", pause=0.2)

    def killed(self, name: str) -> None:
        """Kill a service of the node, and wait until it is back."""
        run = Path(self.place.at.layout.run)
        first = service.state(run, name).restarts
        service.signal_child(run, name, signal.SIGKILL)
        wait_for(lambda: service.state(run, name).restarts > first, f"{name} is not restarted")
        wait_for(lambda: service.state(run, name).state == "running", f"{name} is not back")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix="cs-"))  # short: sockets lie below it
    try:
        settings = replace(load_settings(), node="host", room="containerd", state=folder / "s")
        settings = replace(settings, policy=folder / "policy.yaml")
        netloc = free_netloc()
        with running([str(tool("registry", settings)), "--address", netloc, "--dir", str(folder / "r")], netloc):
            names = outside(settings, folder, netloc)
        with no_way_out() as inside:  # the registry is gone as well: its name leads nowhere, here and there
            try:
                inv(settings, "containerd.setup", inside=inside)
                with opened(settings) as place:
                    yield Node(settings, inside, place, names, folder)
            finally:
                inv(settings, "containerd.clean", inside=inside)
    finally:
        shutil.rmtree(folder)


def outside(settings: Settings, folder: Path, netloc: str) -> dict[str, str]:
    """Build, push, sign and pack the images where there is a network; return their repositories."""
    (folder / "r").mkdir(exist_ok=True)
    key, registry = keys.generate(), Registry()
    (folder / "team.pub").write_text(key.public.pem)
    settings.policy.write_text(POLICY.format(netloc=netloc))
    names = {image: f"{netloc}/gap/{image}" for image in IMAGES}
    for image, name in names.items():
        layouts.push(registry, name, variant(demo_layout(settings), image, folder / f"{image}.layout"), "v1")
        for target in sign.targets(registry, parse(f"{name}:v1")):
            sign.sign(registry, name, target, key)
        there = f"oci-archive:{folder}/{image}.tar"
        inv(settings, "signing.relocate", "--source", f"{name}:v1", "--to", there, "--key", f"{folder}/team.pub")
    inv(settings, "evidence.export", "--image", f"{names['carried']}:v1", "--out", f"{folder}/evidence.tar")
    return names


@contextmanager
def no_way_out() -> Iterator[Sequence[str]]:
    """Make a network namespace with nothing but loopback, and yield what runs a command in it."""
    script = "ip link set lo up && echo up && exec sleep infinity"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"up\n"
            yield ("nsenter", f"--target={holder.pid}", "--net", "--")
        finally:
            holder.kill()


def inv(settings: Settings, task: str, *options: str, inside: Sequence[str] = ()) -> dict[str, Any]:
    """Run a task as a user does, and return its document."""
    environment = {"INVOKE_NODE": "host", "INVOKE_STATE": str(settings.state), "INVOKE_POLICY": str(settings.policy)}
    words = [*inside, str(ROOT / "inv"), task, *options, *(() if task.endswith("clean") else ("--json",))]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout or "{}")
    return document


def test_what_was_carried_is_allowed_by_evidence_that_was_carried(node: Node) -> None:
    for image, name in node.names.items():
        archive = str(node.carried / f"{image}.tar")
        ctr = [*instance(node.settings.state).client_program, "--namespace", "k8s.io", "images", "import"]
        subprocess.run([*node.inside, *ctr, "--base-name", name, archive], check=True, capture_output=True)
        assert node.start(image) == "NO_EVIDENCE_OFFLINE"
    node.inv("evidence.import", "--bundle", f"{node.carried}/evidence.tar")
    node.becomes("carried", "OK")
    assert node.start("left") == "NO_EVIDENCE_OFFLINE"
    for restarted in ("gate", "containerd"):  # after which nothing of it is in memory
        node.killed(restarted)
        node.becomes("carried", "OK")
        assert node.start("left") == "NO_EVIDENCE_OFFLINE"


def test_what_a_node_keeps_is_carried_on_to_another(node: Node) -> None:
    """The other node is this one, made to forget."""
    own = str(node.carried / "own.tar")
    node.becomes("carried", "OK")
    exported = node.inv("evidence.export", "--on", "host", "--out", own)
    assert {one["image"].partition("@")[0] for one in exported["images"]} == {node.names["carried"]}
    node.place.forget_evidence()
    node.killed("gate")
    node.becomes("carried", "NO_EVIDENCE_OFFLINE")
    node.inv("evidence.import", "--bundle", own)
    node.becomes("carried", "OK")
