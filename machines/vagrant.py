"""One machine by Vagrant: up, how it is reached, how it is, and gone again with all that was made for it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import CountersignError, InfrastructureError
from countersign.console.steps import Show, run_steps
from machines import boxes, libvirtd, network, program, providers
from machines.needs import require
from machines.place import Made, Place, place
from machines.reach import Reachable, answers

if TYPE_CHECKING:
    from countersign.console.steps import Step

BUILT = "built"
PUBLIC = {  # distribution -> box, for libvirt and VirtualBox; the Vagrantfile has the same
    "ubuntu": "cloud-image/ubuntu-24.04",
    "debian": "debian/bookworm64",
    "rocky": "rockylinux/9",
}
LXC_LOCKS = Path("/run/lxc/lock")


def up(settings: Settings, show: Show = output.progress, plan: bool = False, keep: bool = False) -> int:
    """Bring the machine up, made if there is none, and return how many steps changed something.

    A machine that could not be made is destroyed again.

    Args:
        settings: which machine.
        show: opened around each step.
        plan: list the steps and change nothing.
        keep: leave a half-made machine for a look.

    Raises:
        MissingError: this host lacks something, or the box cannot be had.
        InfrastructureError: a step failed.
    """
    here = place(settings)
    new = here.made() is None
    wanted = steps(settings)
    try:
        return sum(result.changed for result in run_steps(wanted, plan=plan, show=show))
    except BaseException:
        if new and not keep and not plan:
            _undo(settings, here)
        raise


def steps(settings: Settings) -> list[Step]:
    """Return the steps that bring the machine up.

    Raises:
        MissingError: this host lacks something.
        InfrastructureError: the machine was made otherwise than the settings say.
    """
    here = place(settings)
    made = here.made()
    if made is None:
        made = _wanted(settings, here)
    else:
        _same(settings, made, here)
    found: list[Step] = [Recorded(here, made)]
    if made.built:
        found.append(boxes.BoxBuilt(settings, made.provider))
    if made.subnet:
        found += network.steps(here, made.subnet)
    if made.libvirtd:
        found += libvirtd.steps(here)
    return [*found, Up(settings, here, made), Reachable(settings, here, made)]


def ssh_config(settings: Settings) -> Path:
    """Return a file for ssh(1) and Fabric that reaches the machine by its name, with its host keys.

    Raises:
        InfrastructureError: it is not up.
    """
    here = place(settings)
    if not (here.ssh_config.is_file() and answers(here.ssh_config)):
        found = state(settings)
        raise InfrastructureError(f"the machine is {found}", where=here.name, do="run ./inv vagrant.up")
    return here.ssh_config


def state(settings: Settings) -> str:
    """Return how the machine is, in Vagrant's words: ``running``, ``not_created``, ``stopped``, ``poweroff`` and so on.

    Raises:
        InfrastructureError: Vagrant failed.
    """
    here = place(settings)
    made = here.made()
    if made is None:
        return "not_created"
    if made.libvirtd and not libvirtd.runs(here):
        return "poweroff"
    return program.state(settings, here, made)


def destroy(settings: Settings) -> bool:
    """Destroy the machine with all that was made for it, and return whether there was one.

    Raises:
        InfrastructureError: something stays; it can be tried again.
    """
    here = place(settings)
    made = here.made()
    if made is None:
        return False
    if (here.folder / "dotfile").is_dir():
        if made.libvirtd:
            libvirtd.start(here)
        client = program.client(settings, here, made)
        with program.errors(here):
            client.destroy(vm_name=here.name)
        if made.built:
            _forget_box(client, made)
    if made.subnet:
        network.remove(here)
    if made.provider == "lxc":
        for lock in LXC_LOCKS.rglob(f".{here.guest}"):  # lxc-destroy leaves it
            lock.unlink(missing_ok=True)
    if made.libvirtd:
        libvirtd.stop(here)
    shutil.rmtree(here.folder)
    _remove_if_empty(here.folder.parent)
    return True


@dataclass(frozen=True)
class Recorded:
    """A step: what the machine is made as is written down; from here on `destroy` finds it."""

    here: Place
    made: Made

    @property
    def name(self) -> str:
        """What users read."""
        return f"machine {self.here.name}: {self.made.provider}, box {self.made.box}"

    def needed(self) -> bool:
        """Return whether it is not written down."""
        return self.here.made() != self.made

    def apply(self) -> None:
        """Write it down."""
        self.here.record(self.made)


@dataclass(frozen=True)
class Up:
    """A step: the machine runs."""

    settings: Settings
    here: Place
    made: Made

    @property
    def name(self) -> str:
        """What users read."""
        return f"machine {self.here.name} is up"

    def needed(self) -> bool:
        """Return whether it does not run."""
        if not (self.here.folder / "dotfile").is_dir():
            return True
        if self.here.ssh_config.is_file() and answers(self.here.ssh_config):
            return False
        return program.state(self.settings, self.here, self.made) != "running"

    def apply(self) -> None:
        """Let Vagrant bring it up."""
        client = program.client(self.settings, self.here, self.made)
        with program.errors(self.here), self.here.log.open("a", encoding="utf-8", buffering=1) as log:
            for line in client.up(vm_name=self.here.name, provider=self.made.provider, stream_output=True):
                log.write(line.split("\r")[-1])


def _wanted(settings: Settings, here: Place) -> Made:
    """Return what a new machine is to be."""
    provider = providers.choose(settings)
    chosen = settings.vagrant
    built = chosen.box == BUILT or (provider == "lxc" and not chosen.box)
    own_bridge = provider == "lxc" and not chosen.bridge
    return Made(
        provider=provider,
        box=_own_box(settings, provider, here) if built else chosen.box or PUBLIC[chosen.distribution],
        built=built,
        distribution=chosen.distribution,
        memory=chosen.memory,
        cpus=chosen.cpus,
        bridge=here.bridge if own_bridge else chosen.bridge,
        subnet=network.free_subnet(here) if own_bridge else "",
        libvirtd=provider == "libvirt" and not providers.libvirtd_answers(),
    )


def _own_box(settings: Settings, provider: str, here: Place) -> str:
    """Return the built box's name in Vagrant's store: one for each machine, so that it can go with it."""
    return f"{boxes.box(settings, provider).vagrant_name}-{here.tag}"


def _same(settings: Settings, made: Made, here: Place) -> None:
    """Raise if the settings name another provider or box than the machine has."""
    require("vagrant")
    chosen = settings.vagrant
    do = "destroy it first (./inv vagrant.destroy), or name another machine (INVOKE_VAGRANT_MACHINE)"
    if chosen.provider and chosen.provider != made.provider:
        raise InfrastructureError(f"the machine is {made.provider}", where=here.name, expected=chosen.provider, do=do)
    if chosen.box and (chosen.box != made.box) and not (chosen.box == BUILT and made.built):
        raise InfrastructureError(f"the machine has the box {made.box}", where=here.name, expected=chosen.box, do=do)


def _forget_box(client: Any, made: Made) -> None:
    """Take the built box out of Vagrant's own store; it stays in the cache."""
    try:
        client.box_remove(made.box, f"--provider={made.provider}")
    except subprocess.CalledProcessError:
        output.warn(f"Vagrant's store does not give up the box {made.box}")


def _undo(settings: Settings, here: Place) -> None:
    """Destroy what was half made; why it could not be made stays the error that users see."""
    _keep_log(settings, here)
    try:
        destroy(settings)
    except CountersignError as left:
        output.warn(f"something of it stays: {left}")


def _keep_log(settings: Settings, here: Place) -> None:
    """Let what Vagrant and the serial console wrote outlive the machine."""
    folder = settings.state / "log"
    for log, kept in ((here.log, "vagrant.log"), (here.console, "vagrant-console.log")):
        if log.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, folder / kept)
            output.say(f"kept {folder / kept}")


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
