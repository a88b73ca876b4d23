"""What a machine is like → which steps of set-up would change something there (`setups.yaml`), for both runtimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from containerd.machine import Machine as Containerd
from containerd.runtime import CONFIG
from countersign.console.config import Settings
from countersign.console.steps import Step
from countersign.enforcement.additions import NOTHING
from countersign.nodes.node import Node
from countersign.runtimes.systemd import SystemdMachine, Taken
from countersign.runtimes.work import TOOLS, steps, work
from crio.machine import Machine as Crio
from tests.unit.runtimes.memory import Entry, Memory, Unit

TABLE: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("setups.yaml").read_text())
ROWS = [
    pytest.param(runtime, row, id=f"{runtime}: {name}") for runtime in TABLE for name, row in TABLE[runtime].items()
]
PAUSE = "sha256:" + "a" * 64
TAGGED = "registry.k8s.io/pause:3.10"
BY_DIGEST = f"registry.k8s.io/pause@{PAUSE}"
DUMP = f"""
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{TAGGED}"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
"""
CRIO = """
[crio]
root = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
[crio.runtime]
default_runtime = "runc"
[crio.runtime.runtimes.runc]
[crio.image]
pause_image = "registry.k8s.io/pause:3.10"
"""
pytestmark = pytest.mark.usefixtures("echoing_gate")


class Images:
    """The store of containerd, asked and changed by ctr."""

    def __init__(self) -> None:
        self.names = {TAGGED: PAUSE}

    def listed(self, argv: Sequence[str]) -> bytes:
        if "tag" in argv:
            self.names[argv[-1]] = PAUSE
        lines = [f"{name} application/x {digest} 1 KiB" for name, digest in self.names.items()]
        return "\n".join(["REF TYPE DIGEST SIZE", *lines]).encode()


def machine_of(runtime: str, images: Images) -> Memory:
    """Return a machine on which the runtime runs, as its user has set it up."""
    box = Memory(units={f"{runtime}.service": Unit(active=True, enabled=True)})
    box.answers = {
        "sh -c command -v containerd": b"containerd x v2.4.2 y",
        "containerd config dump": DUMP.encode(),
        "containerd --config": b"",
        "uname": b"x86_64",
        "ctr oci spec": b'{"process": {}}',
        "ctr --namespace k8s.io images": images.listed,
        "crio --version": b"crio version 1.37.0",
        "crio status": CRIO.encode(),
        "crio config": b"",
    }
    box.put(b"version = 3\n", CONFIG)
    return box


def inspected(runtime: str, settings: Settings, node: Node) -> SystemdMachine:
    """Return the machine as set-up finds it."""
    adapter: type[SystemdMachine] = Containerd if runtime == "containerd" else Crio
    found = adapter.as_set_up(settings, node, NOTHING, settings.state / "pins.json").inspected()
    return found.knowing(Taken((BY_DIGEST,), {"sandbox": BY_DIGEST, "tags": [TAGGED]}))


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Memory, str], list[Step]]:
    """Return the steps of set-up for a machine as it is now, and for scopes of policy.yaml."""
    from countersign.keys import files as keyfiles
    from countersign.keys.pair import generate

    keyfiles.write(tmp_path / "k", generate(), b"x")
    programs = {name: tmp_path / name for name in TOOLS}
    for program in programs.values():
        program.write_bytes(b"a program")
    for adapter in (Containerd, Crio):
        monkeypatch.setattr(adapter, "wait_until_it_answers", lambda _: None)
        monkeypatch.setattr(adapter, "wait_for_plugin", lambda _: None)

    def plan(runtime: str, box: Memory, scopes: str) -> list[Step]:
        policy = tmp_path / "policy.yaml"
        roots = "roots: {k: {publicKey: {files: [k.pub]}}}"
        policy.write_text(f"apiVersion: countersign/v1\ndefault: reject\n{roots}\n{scopes}\n")
        settings = Settings(state=tmp_path / "state", policy=policy)
        return steps(work(settings, inspected(runtime, settings, box), (BY_DIGEST,), programs))

    return plan


def change(box: Memory, images: Images, row: dict[str, Any]) -> None:
    """Make of a machine what a row says of it."""
    for path, content in row.get("write", {}).items():
        box.put(content.encode(), path, box.entries[path].mode)
    for path in row.get("remove", ()):
        del box.entries[path]
    for path, target in row.get("link", {}).items():
        box.entries[path] = Entry("l", 0o777, target=target)
    for path, mode in row.get("mode", {}).items():
        box.entries[path].mode = int(mode, 8)
    for path in row.get("touch", ()):
        box.put(box.get(path), path, box.entries[path].mode)
    for unit in row.get("stop", ()):
        box.units[unit].active = False
    for verb, value in (("enable", True), ("disable", False)):
        for unit in row.get(verb, ()):
            box.units.setdefault(unit, Unit()).enabled = value
    if row.get("forget"):
        del images.names[BY_DIGEST]


@pytest.mark.parametrize(("runtime", "row"), ROWS)
def test_set_up_changes_what_a_machine_lacks_and_nothing_else(planned, runtime: str, row: dict[str, Any]) -> None:
    images = Images()
    box = machine_of(runtime, images)
    scopes = "scopes: {r.example/app: {anyOf: [k]}}"
    if row.get("since") != "nothing":
        for step in planned(runtime, box, scopes):
            if step.needed():
                step.apply()
    change(box, images, row)
    before, ran = dict(box.entries), list(box.ran)
    needed = [step.name for step in planned(runtime, box, row.get("policy", scopes)) if step.needed()]
    assert [name.partition(" /")[0] if name.startswith("policy ") else name for name in needed] == row["needed"]
    assert (box.entries, box.ran) == (before, ran), "asking changes nothing"


@pytest.mark.parametrize("runtime", TABLE)
def test_both_runtimes_are_given_the_same_things_in_the_same_order(planned, runtime: str) -> None:
    names = [step.name for step in planned(runtime, machine_of(runtime, Images()), "scopes: {}")]
    marks = ("no policyKeys", "folders of", "gate, hook", "pull-time", "policy ", "unit ", "by our settings", "kubelet")
    found = [mark for name in names for mark in marks if mark in name and not name.startswith("CRI-O's own")]
    assert tuple(dict.fromkeys(found)) == marks
