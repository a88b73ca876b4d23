"""A CRI-O of this host that is all ours: its names, paths and services. Its program is the user's (``CRIO_BIN``)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import MissingError, UsageError
from countersign.nodes.facts import overlay_works
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Link, Running
from countersign.nodes.template import render
from countersign.runtimes import private
from countersign.runtimes.private import HANDLERS, HOST_PATH, PrivateMachine
from crio import paths
from crio.runtime import Configured, Crio, engine_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.node_files import Written

HERE = Path(__file__).resolve().parent
NETWORK = HERE.parent / "countersign/cri" / "10-loopback.conflist"
NEEDED = {"conmon": "conmon", "iptables": "iptables"}
"""Program → Debian's package of it; CRI-O starts none of its containers without."""


@dataclass(frozen=True)
class Instance(PrivateMachine, Crio):
    """See `countersign.runtimes.private.PrivateMachine`.

    Attributes:
        binary: CRI-O's program; None where nobody names one.
        programs: ``runc`` and ``cni-loopback``.
        sandbox_image: by digest.
        driver: of containers/storage: ``overlay`` or ``vfs``.
    """

    binary: Path | None = None
    programs: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False)
    sandbox_image: str = ""
    driver: str = ""

    folder = "crio"
    tools = ("runc", "cni-loopback")
    private = True

    def named(self, settings: Settings) -> Self:
        """Return it with what the settings say of it."""
        return replace(self, binary=settings.crio.binary, engine=engine_of(settings), settings=settings)

    def require(self, settings: Settings) -> None:
        """See `PrivateMachine.require`."""
        program(settings)

    def prepared(self, settings: Settings, programs: Mapping[str, Path], sandbox: str) -> Self:
        """See `PrivateMachine.prepared`."""
        folder = next(each for each in (self.root, *self.root.parents) if each.is_dir())
        driver = "overlay" if overlay_works(self.node, str(folder)) else "vfs"
        ready = replace(self.named(settings), programs=programs, sandbox_image=sandbox, driver=driver)
        return replace(ready, binary=program(settings))

    @property
    def data(self) -> str:
        """What CRI-O itself keeps."""
        return f"{self.layout.lib}/crio"

    @property
    def home(self) -> str:
        """Its home folder: containers' own configuration has no other place that can be chosen."""
        return f"{self.layout.lib}/home"

    @property
    def config(self) -> str:
        """CRI-O's configuration; our drop-in comes after it."""
        return f"{self.layout.etc}/crio.conf"

    @property
    def program(self) -> str:
        """See `Machine.program`."""
        return str(self.binary or "crio")

    def own_files(self) -> Sequence[str]:
        """See `Machine.own_files`: its files, and every log."""
        return (*super().own_files(), *(f"{self.layout.log}/{name}.log" for name in self.services))

    def folders(self) -> list[Step]:
        """See `PrivateMachine.folders`."""
        layout, node = self.layout, self.node
        open_to_others = [self.data, self.home, f"{layout.bin}/cni", f"{layout.etc}/cni"]
        names = ("etc/crio.conf.d", "etc/nri/plugins", "etc/nri/conf.d")
        parts = [
            *(Folder(node, path) for path in open_to_others),
            *(Folder(node, str(self.root / name)) for name in names),
            *(Folder(node, path, 0o700) for path in (layout.lib, layout.run, layout.log)),
            *(Folder(node, f"{layout.run}/{name}", 0o700) for name in ("exits", "attach", "ns", "auth", "own")),
            Folder(node, f"{self.data}/cni", 0o700),
        ]
        return [Group(node, f"folders of CRI-O ({self.root})", parts)]

    @property
    def sandbox_by_digest(self) -> str:
        """See `Crio.sandbox_by_digest`."""
        return self.sandbox_image

    def configured(self, written: Written) -> list[Step]:
        """See `Machine.configured`."""
        files = [*self.files(), *self.configuration(written)]
        link = Link(self.node, f"{self.layout.bin}/cni/loopback", str(self.programs["cni-loopback"]))
        runs = Configured(self, files, Running(self.service(files)), ran_before=False)
        return [Group(self.node, "CRI-O runs by our settings", [link, runs])]

    def files(self) -> list[File]:
        """Return the files of the private CRI-O, without ours for enforcement."""
        config = render(
            HERE / "private.conf.j2",
            paths=self.paths,
            layout=self.layout,
            data=self.data,
            driver=self.driver,
            handlers=HANDLERS,
            pinns=str(Path(self.program).with_name("pinns")),
            runc=str(self.programs["runc"]),
            conmon=shutil.which("conmon", path=HOST_PATH),
            cni=f"{self.layout.bin}/cni",
        )
        network = File(self.node, f"{self.layout.etc}/cni/{NETWORK.name}", NETWORK.read_bytes())
        return [File(self.node, self.config, config), network]

    def service(self, files: Sequence[File]) -> Service:
        """Return CRI-O as a supervised service. Two paths of it cannot be set, so it sees folders of ours there."""
        layout = self.layout
        return Service(
            name=self.room,
            argv=(self.program, "--config", self.config, "--config-dir", f"{layout.etc}/crio.conf.d"),
            run=layout.run,
            log=f"{layout.log}/{self.room}.log",
            env={"PATH": HOST_PATH, "HOME": self.home},
            ready="notify",
            cgroup=self.cgroup,
            shadows={"/var/lib/cni": f"{self.data}/cni", "/run/crio": f"{layout.run}/own"},
            inputs={**{file.path: file.digest() for file in files}, "crio": self.program},
        )


def instance(state: Path) -> Instance:
    """Return the CRI-O of a state folder, whether it exists or not.

    Raises:
        UsageError: the folder's path is too long for sockets.
    """
    found = private.placed(state, Instance.folder, suffix="-crio")
    return Instance(**found, paths=paths.private(found["layout"]))


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
            raise UsageError("is not a program", where=f"CRIO_BIN: {each}", expected="crio, and pinns beside it")
    lacking = [package for name, package in NEEDED.items() if shutil.which(name, path=HOST_PATH) is None]
    if lacking:
        raise MissingError(f"this machine lacks {', '.join(lacking)}", do=f"apt-get install {' '.join(lacking)}")
    return found
