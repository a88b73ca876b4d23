"""What set-up asks of a node and brings to it, on a node that only remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from containerd import pins, survey
from containerd.enforce import BEFORE, Configured, SandboxNamed
from containerd.machine import Machine
from containerd.runtime import CONFIG
from countersign.console.errors import InfrastructureError, MissingError
from countersign.enforcement import nri
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.node import CommandError, Result

DUMP = b"""
version = 3
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.k8s.io/pause:3.10"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.alt]
base_runtime_spec = "/etc/containerd/cri-base.json"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = true
"""
PAUSE = "sha256:" + "a" * 64
IMAGES = f"REF TYPE DIGEST SIZE\nregistry.k8s.io/pause:3.10 application/x {PAUSE} 1 KiB\n".encode()
SPEC = b'{"process": {}}'


class Remembering:
    """A node whose answers are given, and whose files are a dict."""

    name = "n1"

    def __init__(self, answers: Mapping[str, bytes | int], files: Mapping[str, bytes] | None = None) -> None:
        self.answers = dict(answers)
        self.files = dict(files or {})
        self.commands: list[str] = []

    def run(self, argv: Sequence[str], *, check: bool = True, **_: object) -> Result:
        line = " ".join(argv)
        self.commands.append(line)
        if line.startswith("cp -a -- "):
            self.files[argv[-1]] = self.files[argv[-2]]
        found = next((answer for begin, answer in self.answers.items() if line.startswith(begin)), b"")
        code, out = (found, b"") if isinstance(found, int) else (0, found)
        result = Result(tuple(argv), code, out, b"", 0.0)
        if check and code:
            raise CommandError(result, self.name)
        return result

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        self.files[path] = content if isinstance(content, bytes) else content.read_bytes()
        return True

    def get(self, path: str) -> bytes:
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files

    def forward(self, socket: str) -> str:
        return f"unix:{socket}"

    def expose(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"


ANSWERS: dict[str, bytes | int] = {
    "sh -c command -v containerd": b"containerd github.com/containerd/containerd/v2 v2.4.2 abc",
    "containerd config dump": DUMP,
    "uname": b"x86_64\n",
    "ctr oci spec": SPEC,
    "ctr --namespace k8s.io images ls": IMAGES,
    "grep ^CapBnd:": b"CapBnd:\t000001ffffffffff\n",
}
FILES = {CONFIG: b"version = 3\n", "/etc/containerd/cri-base.json": b'{"process": {}, "linux": {}}'}


def test_a_survey_tells_what_a_node_is_like():
    found = survey.survey(Remembering(ANSWERS, FILES), SYSTEM)
    assert (found.version, found.nri) == ((2, 4, 2), nri.DEFAULT_SOCKET)
    assert found.sandbox == f"registry.k8s.io/pause@{PAUSE}"
    assert found.handlers == {"runc": "/etc/countersign/base-runc.json", "alt": "/etc/countersign/base-alt.json"}
    assert found.base_specs == {
        "/etc/countersign/base-runc.json": SPEC,
        "/etc/countersign/base-alt.json": FILES["/etc/containerd/cri-base.json"],
    }
    assert (found.certs, found.platform) == ("/etc/containerd/certs.d", "linux/amd64")
    assert (found.systemd_cgroups, found.lacks_resource) == (True, False)


@pytest.mark.parametrize("default", ["runc", "alt"])
def test_the_default_handler_comes_first(default):
    dump = DUMP.replace(b'default_runtime_name = "runc"', f'default_runtime_name = "{default}"'.encode())
    found = survey.survey(Remembering({**ANSWERS, "containerd config dump": dump}, FILES), SYSTEM)
    assert next(iter(found.handlers)) == default


def test_a_machine_without_the_capability_is_recognised():
    without = {**ANSWERS, "grep ^CapBnd:": b"CapBnd:\t000001fffeffffff\n"}
    assert survey.survey(Remembering(without, FILES), SYSTEM).lacks_resource


@pytest.mark.parametrize(
    ("answer", "told"), [(b"", "there is no containerd"), (b"containerd x v2.0.5 y", "containerd 2.0; expected 2.1")]
)
def test_a_containerd_that_will_not_do_is_told(answer: bytes, told: str):
    with pytest.raises(MissingError, match=told):
        survey.survey(Remembering({**ANSWERS, "sh -c command -v containerd": answer}, FILES), SYSTEM)


def test_a_containerd_that_can_require_no_plugin_gets_none():
    old = {**ANSWERS, "sh -c command -v containerd": b"containerd x v2.1.9 y"}
    assert survey.survey(Remembering(old, FILES), SYSTEM).nri == ""


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (b"2.4.2", []),
        (b"2.2.0", []),
        (b"2.1.9", ["containerd before 2.2 can't require the gate's NRI plugin"]),
        (b"2.1.0", ["containerd before 2.2 can't require the gate's NRI plugin"]),
    ],
)
def test_set_up_warns_of_a_containerd_that_cannot_require_the_gate(version, told):
    found = surveyed_with(version)
    warnings = machine(Remembering({})).surveyed(found).warnings()
    assert [line.startswith(start) for line, start in zip(warnings, told, strict=True)] == [True] * len(told)


@pytest.mark.parametrize("version", [b"1.7.99", b"2.0.9", b"2.1.0-rc.1"])
def test_before_2_1_nothing_can_be_enforced(version):
    with pytest.raises(MissingError, match=r"expected 2\.1 or newer"):
        surveyed_with(version)


def surveyed_with(version):
    answers = {**ANSWERS, "sh -c command -v containerd": b"containerd x v" + version + b" y"}
    return survey.survey(Remembering(answers, FILES), SYSTEM)


def test_an_old_configuration_is_taken_as_containerd_translates_it():
    answers = {**ANSWERS, f"containerd --config {CONFIG} config migrate": b"version = 4\n"}
    old = {**FILES, CONFIG: b"version = 2\n"}
    assert survey.survey(Remembering(answers, old), SYSTEM).config == b"version = 4\n"


def test_pins_are_what_came_with_the_nodes_and_what_the_system_runs(monkeypatch, tmp_path):
    listed = IMAGES + f"sha256:{'b' * 64} application/x sha256:{'b' * 64} 1 KiB\n".encode()
    node = Remembering({"ctr --namespace k8s.io images ls": listed})
    monkeypatch.setattr(pins, "system_images", lambda _: ["registry.k8s.io/pause:3.10"])
    assert pins.take([node], tmp_path) == [f"registry.k8s.io/pause@{PAUSE}"]


def test_a_system_pod_whose_image_no_node_has_is_told(monkeypatch, tmp_path):
    node = Remembering({"ctr --namespace k8s.io images ls": IMAGES})
    monkeypatch.setattr(pins, "system_images", lambda _: ["registry.k8s.io/etcd:3"])
    with pytest.raises(InfrastructureError, match=r"registry\.k8s\.io/etcd:3: a system pod runs it"):
        pins.take([node], tmp_path)


def machine(node: Remembering, answers: Callable[[], None] = lambda: None) -> Machine:
    made = Machine(Path("/s"), node, SYSTEM, ("runc",), Path("/s/pins.json"))
    object.__setattr__(made, "wait_until_it_answers", answers)
    return made


def test_the_sandbox_image_gets_a_name_by_digest_once():
    node = Remembering({"ctr --namespace k8s.io images ls": IMAGES})
    step = SandboxNamed(machine(node), f"registry.k8s.io/pause@{PAUSE}")
    assert step.needed()
    step.apply()
    assert f"ctr --namespace k8s.io images tag --force registry.k8s.io/pause:3.10 {step.sandbox}" in node.commands
    node.answers["ctr --namespace k8s.io images ls"] = IMAGES + f"{step.sandbox} application/x {PAUSE} 1\n".encode()
    assert not step.needed()


@pytest.mark.parametrize("ours", [True, False])
def test_clean_takes_away_the_name_that_set_up_gave_the_sandbox_image_and_no_other(ours: bool):
    node = Remembering({"ctr --namespace k8s.io images ls": IMAGES})
    sandbox = f"registry.k8s.io/pause@{PAUSE}"
    if ours:
        SandboxNamed(machine(node), sandbox).apply()
    machine(node).restored(()).apply()
    assert (f"ctr --namespace k8s.io images rm {sandbox}" in node.commands) is ours


STATE = b"ActiveState=active\nNRestarts=0\nMainPID=7\nUnitFileState=enabled\nNeedDaemonReload=no\n"


def configured(old: bytes, restarts: Callable[[], None] = lambda: None) -> tuple[Remembering, Configured]:
    node = Remembering({"systemctl show": STATE, "mktemp": b"/etc/containerd/.x"}, {CONFIG: old})
    return node, Configured(machine(node, restarts), b"new\n")


def test_a_new_configuration_is_checked_written_and_lived_by():
    node, step = configured(b"old\n")
    step.apply()
    assert (node.files[CONFIG], node.files[BEFORE]) == (b"new\n", b"old\n")
    order = [
        line.split()[0:2] for line in node.commands if "config dump" in line or line.startswith("systemctl restart")
    ]
    assert order == [["containerd", "--config"], ["systemctl", "restart"]]


def test_a_second_set_up_keeps_what_was_there_before_the_first():
    node, step = configured(b"ours, from before\n")
    node.files[BEFORE] = b"the user's\n"
    step.apply()
    assert (node.files[CONFIG], node.files[BEFORE]) == (b"new\n", b"the user's\n")


def test_a_containerd_that_does_not_come_back_gets_its_old_configuration_again():
    def dead() -> None:
        raise InfrastructureError("did not answer")

    node, step = configured(b"old\n", dead)
    with pytest.raises(InfrastructureError, match="it runs by its old configuration again"):
        step.apply()
    assert node.files[CONFIG] == b"old\n"
    assert sum(line.startswith("systemctl restart") for line in node.commands) == 2


def test_a_configuration_that_containerd_does_not_read_is_not_written():
    node, step = configured(b"old\n")
    node.answers["containerd --config"] = 1
    with pytest.raises(InfrastructureError, match="containerd does not read our settings"):
        step.apply()
    assert node.files == {CONFIG: b"old\n", "/etc/containerd/.x": b"new\n"}
    assert "rm -f -- /etc/containerd/.x" in node.commands
    assert not any(line.startswith("systemctl restart") for line in node.commands)


def test_pins_of_a_machine_are_read_from_its_file(tmp_path):
    path = tmp_path / "pins.json"
    path.write_text(json.dumps(["a@sha256:1"]))
    made = Machine(tmp_path, Remembering({}), SYSTEM, ("runc",), path)
    assert made.pinned() == ["a@sha256:1"]


def test_a_machines_own_containerd_tells_what_the_system_runs_on_it() -> None:
    listed = b"CONTAINER IMAGE RUNTIME\nabc registry.k8s.io/pause:3.10 io.containerd.runc.v2\ndef gone:1 x\n"
    command = 'ctr --namespace k8s.io containers ls labels."io.kubernetes.pod.namespace"==kube-system'
    preloaded = f"ctr --namespace k8s.io images ls {pins.PRELOADED}"
    answers = {preloaded: b"REF\n", command: listed, "ctr --namespace k8s.io images ls": IMAGES}
    assert pins.take_from(Remembering(answers)) == [f"registry.k8s.io/pause@{PAUSE}"]
    assert pins.take_from(Remembering({**answers, command: b"CONTAINER\n"})) == []
