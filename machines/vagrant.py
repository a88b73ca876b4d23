"""One machine by Vagrant: up, how it is reached, how it is, and gone again with all that was made for it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import CountersignError, InfrastructureError, MissingError
from countersign.console.steps import Show, run_steps
from machines import boxes, libvirtd, network, providers
from machines.needs import require
from machines.place import Made, Place, place

if TYPE_CHECKING:
    from countersign.console.steps import Step

BUILT = "built"
PUBLIC = {  # distribution -> box, for libvirt and VirtualBox; the Vagrantfile has the same
    "ubuntu": "cloud-image/ubuntu-24.04",
    "debian": "debian/bookworm64",
    "rocky": "rockylinux/9",
}
NO_CATALOGUE = re.compile(r"could not be found or\s+could not be accessed|error occurred while downloading", re.DOTALL)
REACH_WITHIN = 2.0
LXC_LOCKS = Path("/run/lxc/lock")
SHOWN = 400


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
    if not (here.ssh_config.is_file() and _answers(here.ssh_config)):
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
    return _state(settings, here, made)


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
        client = _client(settings, here, made)
        with _errors(here):
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
        if self.here.ssh_config.is_file() and _answers(self.here.ssh_config):
            return False
        return _state(self.settings, self.here, self.made) != "running"

    def apply(self) -> None:
        """Let Vagrant bring it up."""
        client = _client(self.settings, self.here, self.made)
        with _errors(self.here), self.here.log.open("a", encoding="utf-8", buffering=1) as log:
            for line in client.up(vm_name=self.here.name, provider=self.made.provider, stream_output=True):
                log.write(line.split("\r")[-1])


@dataclass(frozen=True)
class Reachable:
    """A step: the machine's ssh-config and host keys are here."""

    settings: Settings
    here: Place
    made: Made

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.here.ssh_config.name} of {self.here.name}"

    def needed(self) -> bool:
        """Return whether there is none, or it leads nowhere."""
        return not (self.here.ssh_config.is_file() and _answers(self.here.ssh_config))

    def apply(self) -> None:
        """Write both.

        Vagrant has just logged in with the key that it put there; the host keys that the machine shows in that same
        session are the ones that count from here on.
        """
        client = _client(self.settings, self.here, self.made)
        with _errors(self.here):
            said = client.ssh_config(vm_name=self.here.name)
            keys = client.ssh(vm_name=self.here.name, command="cat /etc/ssh/ssh_host_*_key.pub")
        options = _options(said)
        host, port = options["HostName"], options.get("Port", "22")
        host = host if port == "22" else f"[{host}]:{port}"  # sshd(8), SSH_KNOWN_HOSTS FILE FORMAT
        lines = [line.split()[:2] for line in keys.splitlines() if len(line.split()) > 1]
        if not lines:
            raise InfrastructureError("shows no host keys", where=self.here.name)
        self.here.known_hosts.write_text("".join(f"{host} {kind} {key}\n" for kind, key in lines))
        options |= {"UserKnownHostsFile": str(self.here.known_hosts), "StrictHostKeyChecking": "yes"}
        body = "".join(f"  {key} {_quoted(value)}\n" for key, value in options.items() if key != "Host")
        self.here.ssh_config.write_text(f"Host {self.here.name}\n{body}")
        self.here.ssh_config.chmod(0o600)


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


def _client(settings: Settings, here: Place, made: Made) -> Any:
    from vagrant import Vagrant

    extra: dict[str, str] = {}
    if made.built:
        box = boxes.box(settings, made.provider)
        extra["COUNTERSIGN_BOX_URL"] = f"file://{box.path}"
        if made.provider == "libvirt":
            extra |= {"COUNTERSIGN_KERNEL": str(box.kernel), "COUNTERSIGN_INITRD": str(box.initrd)}
    if made.libvirtd:
        extra |= libvirtd.environment(here) | {"COUNTERSIGN_CONSOLE": str(here.console)}
    here.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def errors() -> Iterator[Any]:
        with here.log.open("ab") as log:
            yield log

    environment = {**os.environ, **here.environment(made, extra)}
    client: Any = Vagrant
    return client(root=str(ROOT), env=environment, out_cm=errors, err_cm=errors)


def _state(settings: Settings, here: Place, made: Made) -> str:
    with _errors(here):
        found = _client(settings, here, made).status(vm_name=here.name)
    states = [each.state for each in found if each.name == here.name and each.state]
    if not states:
        raise InfrastructureError("Vagrant does not say how it is", where=here.name, do=f"read {here.log}")
    return str(states[0])


@contextmanager
def _errors(here: Place) -> Iterator[None]:
    """Turn Vagrant's failures into ours, with the end of what it wrote."""
    before = here.log.stat().st_size if here.log.exists() else 0
    try:
        yield
    except subprocess.CalledProcessError as error:
        with here.log.open("rb") as log:
            log.seek(before)
            said = log.read().decode(errors="replace")
        words = " ".join(error.cmd[1:3])
        if NO_CATALOGUE.search(said):
            raise MissingError(
                "the box cannot be had from its catalogue",
                where=here.name,
                do="take the built one: INVOKE_VAGRANT_BOX=built ./inv vagrant.box vagrant.up",
            ) from None
        text = f"`vagrant {words}` failed with {error.returncode}: {' '.join(said.split())[-SHOWN:]}"
        raise InfrastructureError(text, where=here.name, do="read vagrant.log") from None
    except (OSError, RuntimeError) as error:
        if isinstance(error, CountersignError):
            raise
        raise InfrastructureError(f"Vagrant could not be run ({error})", where=here.name) from None


def _forget_box(client: Any, made: Made) -> None:
    """Take the built box out of Vagrant's own store; it stays in the cache."""
    try:
        client.box_remove(made.box, f"--provider={made.provider}")
    except subprocess.CalledProcessError:
        output.warn(f"Vagrant's store does not give up the box {made.box}")


def _options(text: str) -> dict[str, str]:
    """Return the options of a Host section of ssh_config(5)."""
    pairs = [line.strip().split(None, 1) for line in text.splitlines()]
    return {pair[0]: pair[1].strip().strip('"') for pair in pairs if len(pair) == 2}  # noqa: PLR2004 - a pair


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value


def _answers(config: Path) -> bool:
    """Return whether something listens where an ssh-config leads."""
    options = _options(config.read_text(encoding="utf-8"))
    try:
        address = (options["HostName"], int(options.get("Port", "22")))
        with socket.create_connection(address, timeout=REACH_WITHIN):
            return True
    except (OSError, KeyError, ValueError):
        return False


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
