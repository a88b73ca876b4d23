"""A CRI-O of this host that is all ours: its names, paths and services. Its program is the user's (``CRIO_BIN``)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import MissingError, UsageError
from countersign.enforcement import layout as layouts
from countersign.enforcement.additions import NOTHING
from countersign.enforcement.layout import Layout
from countersign.enforcement.recovering import Recovering
from countersign.enforcement.report import ServiceState, of_service
from countersign.enforcement.supervised import Supervised
from countersign.nodes import service
from countersign.nodes.host import HostNode
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder
from countersign.nodes.template import render
from crio.machine import Machine, Ways
from crio.paths import Paths, private

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.enforcement.additions import Addition

HERE = Path(__file__).resolve().parent
NETWORK = HERE.parent / "countersign/cri" / "10-loopback.conflist"
HANDLERS = ("runc", "runc-alt")
"""The runtime handlers; there are two to show that each has the hook."""
SERVICES = ("gate", "crio")
"""What is supervised, in the order in which it starts; what the place is given beside comes before."""
NEEDED = {"conmon": "conmon", "iptables": "iptables"}
"""Program → Debian's package of it; CRI-O starts none of its containers without."""
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Instance:
    """What set-up makes below one state folder, and what the verbs after it use; see `enforcement.teardown.Private`."""

    state: Path
    layout: Layout
    paths: Paths
    node: HostNode = field(default_factory=HostNode)
    addition: Addition = field(default=NOTHING, repr=False, compare=False)
    room: str = "crio"

    @property
    def services(self) -> Sequence[str]:
        """Everything supervised, in the order in which it starts."""
        return (*self.addition.services, *SERVICES)

    @property
    def root(self) -> Path:
        """The folder that is all ours."""
        return self.state / "crio"

    @property
    def run(self) -> Path:
        """Where supervisors keep their files."""
        return Path(self.layout.run)

    @property
    def data(self) -> str:
        """What CRI-O itself keeps."""
        return f"{self.layout.lib}/crio"

    @property
    def home(self) -> str:
        """Its home folder: containers' own configuration has no other place that can be chosen."""
        return f"{self.layout.lib}/home"

    @property
    def cgroup(self) -> str:
        """The cgroup of everything that belongs to it."""
        return f"{layouts.instance(self.state)}-crio"

    @property
    def config(self) -> str:
        """CRI-O's configuration; our drop-in comes after it."""
        return f"{self.layout.etc}/crio.conf"

    @property
    def pins(self) -> Path:
        """Digests that set-up pinned, beside those of the user's policy."""
        return self.root / "pins.json"


def instance(state: Path) -> Instance:
    """Return the CRI-O of a state folder, whether it exists or not.

    Raises:
        UsageError: the folder's path is too long for sockets.
    """
    state = state.resolve()
    layout = layouts.host(state, "crio")
    return Instance(state, layout, private(layout))


def program(settings: Settings) -> Path:
    """Return the user's CRI-O.

    Raises:
        MissingError: none is named, or what it needs beside it is not there.
        UsageError: there is no such program.
    """
    if os.geteuid() != 0:
        raise MissingError("CRI-O needs root", do="run it as root (sudo ./inv crio.configure --on host)")
    found = settings.crio.binary
    if found is None:
        raise MissingError(
            "no CRI-O program is named", where="CRIO_BIN", do="set it to a crio binary with pinns beside it"
        )
    for each in (found, found.with_name("pinns")):
        if not os.access(each, os.X_OK):
            raise UsageError("is no program", where=f"CRIO_BIN: {each}", expected="crio, and pinns beside it")
    lacking = [package for name, package in NEEDED.items() if shutil.which(name, path=HOST_PATH) is None]
    if lacking:
        raise MissingError(f"this machine lacks {', '.join(lacking)}", do=f"apt-get install {' '.join(lacking)}")
    return found


def configuration(ours: Instance, crio: Path, programs: Mapping[str, Path], driver: str) -> list[File]:
    """Return the files of the private CRI-O, without ours for enforcement.

    Args:
        ours: the instance.
        crio: its program.
        programs: ``runc`` and ``cni-loopback``.
        driver: of containers/storage: ``overlay`` or ``vfs``.
    """
    config = render(
        HERE / "private.conf.j2",
        paths=ours.paths,
        layout=ours.layout,
        data=ours.data,
        driver=driver,
        handlers=HANDLERS,
        pinns=str(crio.with_name("pinns")),
        runc=str(programs["runc"]),
        conmon=shutil.which("conmon", path=HOST_PATH),
        cni=f"{ours.layout.bin}/cni",
    )
    return [
        File(ours.node, ours.config, config),
        File(ours.node, f"{ours.layout.etc}/cni/{NETWORK.name}", NETWORK.read_bytes()),
    ]


def folders(ours: Instance) -> list[Folder]:
    """Return the folders that it needs before it starts."""
    layout = ours.layout
    open_to_others = [ours.data, ours.home, f"{layout.bin}/cni", f"{layout.etc}/cni"]
    names = ("etc/crio.conf.d", "etc/nri/plugins", "etc/nri/conf.d")
    return [
        *(Folder(ours.node, path) for path in open_to_others),
        *(Folder(ours.node, str(ours.root / name)) for name in names),
        *(Folder(ours.node, path, 0o700) for path in (layout.lib, layout.run, layout.log)),
        *(Folder(ours.node, f"{layout.run}/{name}", 0o700) for name in ("exits", "attach", "ns", "auth", "own")),
        Folder(ours.node, f"{ours.data}/cni", 0o700),
    ]


def crio_service(ours: Instance, crio: Path, inputs: Mapping[str, str]) -> Service:
    """Return CRI-O as a supervised service. Two paths of it cannot be set, so it sees folders of ours there."""
    return Service(
        name="crio",
        argv=(str(crio), "--config", ours.config, "--config-dir", f"{ours.layout.etc}/crio.conf.d"),
        run=ours.layout.run,
        log=f"{ours.layout.log}/crio.log",
        env={"PATH": HOST_PATH, "HOME": ours.home},
        ready="notify",
        cgroup=ours.cgroup,
        shadows={"/var/lib/cni": f"{ours.data}/cni", "/run/crio": f"{ours.layout.run}/own"},
        inputs=dict(inputs),
    )


def machine(ours: Instance, settings: Settings) -> Machine:
    """Return it as the verbs after set-up use it."""
    return Machine(
        state=ours.state,
        node=ours.node,
        layout=ours.layout,
        paths=ours.paths,
        crio=str(settings.crio.binary or "crio"),
        handlers=HANDLERS,
        pins=ours.pins,
        addition=ours.addition,
        engine="lenient" if settings.crio.engine == "lenient" else "strict",
        ways=Ways(
            controls=lambda machine: Recovering(Supervised(ours.run, ours.addition.stopped, "crio"), machine),
            services=lambda _: states(ours),
            undisturbed=lambda _: nullcontext(),
            log=lambda _, name: log(ours, name),
        ),
        cgroup_parent=f"/{ours.cgroup}/pods",
    )


def states(ours: Instance) -> list[ServiceState]:
    """Return how each service is."""
    return [of_service(service.state(ours.run, name)) for name in ours.services]


def log(ours: Instance, name: str) -> bytes:
    """Return a log, or an empty one. Raises UsageError when there is none of that name."""
    names = (*ours.services, "verdicts")
    if name not in names:
        raise UsageError(f"got {name!r}", where="--name", expected=", ".join(names))
    path = ours.layout.verdicts if name == "verdicts" else f"{ours.layout.log}/{name}.log"
    if not ours.node.exists(path):
        raise UsageError("there is no such log yet", where=path, do="run ./inv crio.configure")
    return ours.node.get(path)
