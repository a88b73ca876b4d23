"""One private containerd of this machine: its names, paths, and what it is made of."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd.adapt import adapted
from containerd.runtime import DEFAULT_SNAPSHOTTER, Containerd
from countersign.enforcement.gate import environment
from countersign.nodes import facts
from countersign.nodes.facts import Facts
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Link, Running
from countersign.nodes.template import render
from countersign.runtimes import private
from countersign.runtimes.private import HANDLERS, HOST_PATH, PrivateMachine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from typing_extensions import Self

    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.node_files import Written

HERE = Path(__file__).resolve().parent
NETWORK = HERE.parent / "countersign/cri" / "10-loopback.conflist"
PROGRAMS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd-shim-runc-v2",
    "ctr": "ctr",
    "runc": "runc",
    "cni-loopback": "cni/loopback",
}
"""Tool → its name below ``bin``; containerd finds its shim, and the shim finds runc, through PATH."""

USUAL = Facts(DEFAULT_SNAPSHOTTER, restrict_oom_score_adj=False, platform="")


@dataclass(frozen=True)
class Instance(PrivateMachine, Containerd):
    """See `countersign.runtimes.private.PrivateMachine`.

    Attributes:
        programs: tool → its file.
        sandbox_image: by digest, as CRI pulls it and the policy pins it.
        spec: the OCI spec that every container starts from, as the runtime itself has it.
        facts: of this machine.
        version: what the runtime says of it.
        more_handlers: runtime handlers with base specs of their own: name → path. The bench compares with them, without
            NRI, which would refuse them; doctor refuses each that lacks the hook.
    """

    programs: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False)
    sandbox_image: str = ""
    spec: bytes = field(default=b"", repr=False, compare=False)
    facts: Facts = USUAL
    version: str = ""
    more_handlers: Mapping[str, str] = field(default_factory=dict)

    folder = "host"
    tools = tuple(PROGRAMS)

    def require(self, settings: Settings) -> None:
        """See `PrivateMachine.require`: whatever it needs is built."""

    def prepared(self, _settings: Settings, programs: Mapping[str, Path], sandbox: str) -> Self:
        """See `PrivateMachine.prepared`."""
        folder = next(each for each in (self.root, *self.root.parents) if each.is_dir())
        spec = self.node.run([str(programs["ctr"]), "oci", "spec"]).stdout
        found = facts.gather(self.node, str(folder))
        version = self.node.run([str(programs["containerd"]), "--version"]).text
        return replace(self, programs=programs, sandbox_image=sandbox, facts=found, version=version, spec=spec)

    @property
    def data(self) -> str:
        """What containerd itself keeps. Others may pass through: with user namespaces, containers have to."""
        return f"{self.root}/containerd"

    @property
    def socket(self) -> str:
        """Containerd's gRPC socket, CRI included."""
        return f"{self.layout.run}/containerd.sock"

    @property
    def nri(self) -> str:
        """The socket at which NRI plugins register; empty where none may."""
        return "" if self.more_handlers else f"{self.layout.run}/nri.sock"

    @property
    def config(self) -> str:
        """Containerd's configuration."""
        return f"{self.layout.etc}/containerd.toml"

    @property
    def program(self) -> str:
        """See `Machine.program`."""
        return self.bin("containerd")

    def bin(self, name: str) -> str:
        """Return the path of one of containerd's programs (``containerd``, ``ctr``, ``runc``)."""
        return f"{self.layout.bin}/{name}"

    @property
    def client_program(self) -> Sequence[str]:
        """See `Containerd.client_program`."""
        return (self.bin("ctr"), "--address", self.socket)

    @property
    def snapshotter(self) -> str:
        """The snapshotter that the configuration names."""
        found = re.search(r'^  snapshotter = "(\w+)"', self.node.get(self.config).decode(), re.MULTILINE)
        return found[1] if found else DEFAULT_SNAPSHOTTER

    def own_files(self) -> Sequence[str]:
        """See `Machine.own_files`: the configuration, and every log."""
        return (self.config, *(f"{self.layout.log}/{name}.log" for name in self.services))

    def gate_options(self) -> Mapping[str, Any]:
        """See `Machine.gate_options`."""
        spec, found = self.layout.base_spec, self.facts
        told = {
            "version": self.version,
            "config": tomllib.loads(self.plain().decode()),
            "sandbox": self.sandbox_image,
            "handlers": dict.fromkeys(HANDLERS, spec),
            "platform": found.platform,
            "lacksResource": found.restrict_oom_score_adj,
        }
        return {"runtime_socket": self.socket, "nri": self.nri, "base_specs": {spec: self.spec}, "told": told}

    def way(self) -> list[Group]:
        """See `Machine.way`: its registries put their own hosts.toml files there."""
        return []

    def configured(self, written: Written) -> list[Step]:
        """See `Machine.configured`."""
        layout = self.layout
        folders = [
            Folder(self.node, f"{layout.bin}/cni"),
            Folder(self.node, f"{layout.etc}/cni"),
            *(Folder(self.node, path, 0o711) for path in (self.data, f"{self.data}/state")),
            *(Folder(self.node, f"{self.data}/{name}", 0o700) for name in ("root", "cni", "scratch")),
        ]
        links = [Link(self.node, f"{layout.bin}/{name}", str(self.programs[tool])) for tool, name in PROGRAMS.items()]
        return [
            Group(self.node, f"programs of containerd ({layout.bin})", [*folders, *links]),
            Group(self.node, f"configuration of containerd ({self.config})", self.files(written)),
            Running(self.service(written)),
        ]

    def plain(self) -> bytes:
        """Return its configuration without what enforcement needs."""
        layout = self.layout
        return render(
            HERE / "config.toml.j2",
            layout=layout,
            root=f"{self.data}/root",
            state=f"{self.data}/state",
            temp=f"{self.data}/scratch",
            opt=f"{self.data}/opt",
            socket=self.socket,
            nri=self.nri,
            cni_bin=f"{layout.bin}/cni",
            cni_conf=f"{layout.etc}/cni",
            default_handler=HANDLERS[0],
            handlers={**dict.fromkeys(HANDLERS, ""), **self.more_handlers},
            snapshotter=self.facts.snapshotter,
            restrict_oom_score_adj=self.facts.restrict_oom_score_adj,
        )

    def files(self, written: Written) -> list[File]:
        """Return containerd's own files; the base spec is the gate's."""
        layout = self.layout
        return [
            File(self.node, self.config, adapted(self.plain(), written.plugins)),
            File(self.node, f"{layout.etc}/cni/{NETWORK.name}", NETWORK.read_bytes()),
        ]

    def service(self, written: Written) -> Service:
        """Return containerd as a supervised service.

        Two paths can't be configured, so it sees folders of the instance there: shim sockets and
        runc's state (/run/containerd, kept short for the sockets' sake) and libcni's cache (/var/lib/cni).
        """
        layout = self.layout
        spec = File(self.node, layout.base_spec, written.files[layout.base_spec])
        return Service(
            name=self.room,
            argv=(self.program, "--config", self.config),
            run=layout.run,
            log=f"{layout.log}/{self.room}.log",
            env={"PATH": f"{layout.bin}:{HOST_PATH}", "HOME": self.data, **environment(layout)},
            ready="notify",
            cgroup=self.cgroup,
            shadows={"/run/containerd": f"{self.data}/state", "/var/lib/cni": f"{self.data}/cni"},
            inputs={
                **{file.path: file.digest() for file in (*self.files(written), spec)},
                **{tool: str(self.programs[tool]) for tool in PROGRAMS},
            },
        )


def instance(state: Path) -> Instance:
    """Return the instance of a state folder, whether it exists or not.

    However the folder is spelled, it is the same instance.

    Raises:
        UsageError: the folder's path is too long for sockets.
    """
    return Instance(**private.placed(state, Instance.folder))
