"""The private containerd itself: its files, and the service that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from containerd.instance import HANDLERS, Instance
from countersign.enforcement import gate
from countersign.nodes.facts import Facts
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Link, Running
from countersign.nodes.template import render

if TYPE_CHECKING:
    from countersign.console.steps import Step

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
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def files(
    instance: Instance, facts: Facts, sandbox_image: str, more_handlers: Mapping[str, str] | None = None
) -> list[File]:
    """Return containerd's own files; the base spec is the gate's.

    ``more_handlers`` are runtime handlers with base specs of their own: name → path. The bench
    compares with them, without NRI, which would refuse them; doctor refuses each that lacks the hook.
    """
    layout = instance.layout
    config = render(
        HERE / "config.toml.j2",
        layout=layout,
        root=f"{instance.data}/root",
        state=f"{instance.data}/state",
        temp=f"{instance.data}/scratch",
        opt=f"{instance.data}/opt",
        socket=instance.socket,
        nri="" if more_handlers else instance.nri,
        cni_bin=f"{layout.bin}/cni",
        cni_conf=f"{layout.etc}/cni",
        sandbox_image=sandbox_image,
        default_handler=HANDLERS[0],
        handlers={**dict.fromkeys(HANDLERS, layout.base_spec), **(more_handlers or {})},
        snapshotter=facts.snapshotter,
        restrict_oom_score_adj=facts.restrict_oom_score_adj,
        platform=facts.platform,
    )
    return [
        File(instance.node, instance.config, config),
        File(instance.node, f"{layout.etc}/cni/{NETWORK.name}", NETWORK.read_bytes()),
    ]


def service(instance: Instance, own: list[File], base_spec: File, programs: Mapping[str, Path]) -> Service:
    """Return containerd as a supervised service.

    Two paths can't be configured, so it sees folders of the instance there: shim sockets and
    runc's state (/run/containerd, kept short for the sockets' sake) and libcni's cache (/var/lib/cni).
    """
    layout = instance.layout
    return Service(
        name="containerd",
        argv=(instance.program("containerd"), "--config", instance.config),
        run=layout.run,
        log=instance.log,
        env={"PATH": f"{layout.bin}:{HOST_PATH}", "HOME": instance.data, **gate.environment(layout)},
        ready="notify",
        cgroup=instance.cgroup,
        shadows={"/run/containerd": f"{instance.data}/state", "/var/lib/cni": f"{instance.data}/cni"},
        inputs={
            **{file.path: file.digest() for file in (*own, base_spec)},
            **{tool: str(programs[tool]) for tool in PROGRAMS},
        },
    )


def steps(instance: Instance, own: list[File], running: Service, programs: Mapping[str, Path]) -> list[Step]:
    """Return the steps that make it run."""
    layout = instance.layout
    folders = [
        Folder(instance.node, f"{layout.bin}/cni"),
        Folder(instance.node, f"{layout.etc}/cni"),
        *(Folder(instance.node, path, 0o711) for path in (instance.data, f"{instance.data}/state")),
        *(Folder(instance.node, f"{instance.data}/{name}", 0o700) for name in ("root", "cni", "scratch")),
    ]
    links = [Link(instance.node, f"{layout.bin}/{name}", str(programs[tool])) for tool, name in PROGRAMS.items()]
    return [
        Group(instance.node, f"programs of containerd ({layout.bin})", [*folders, *links]),
        Group(instance.node, f"configuration of containerd ({instance.config})", own),
        Running(running),
    ]
