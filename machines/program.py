"""Vagrant's program for one machine: its environment, its log, and its failures in our words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from countersign.console.config import ROOT, Settings
from countersign.console.errors import CountersignError, InfrastructureError, MissingError
from machines import boxes, libvirtd
from machines.place import Made, Place

NO_CATALOGUE = re.compile(r"could not be found or\s+could not be accessed|error occurred while downloading", re.DOTALL)
SHOWN = 400


def client(settings: Settings, here: Place, made: Made) -> Any:
    """Return Vagrant's program (python-vagrant) with a machine's environment; what it writes goes to the log."""
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
    def written() -> Iterator[Any]:
        with here.log.open("ab") as log:
            yield log

    environment = {**os.environ, **here.environment(made, extra)}
    made_by: Any = Vagrant
    return made_by(root=str(ROOT), env=environment, out_cm=written, err_cm=written)


def state(settings: Settings, here: Place, made: Made) -> str:
    """Return how a machine is, in Vagrant's words. Raises InfrastructureError: Vagrant failed."""
    with errors(here):
        found = client(settings, here, made).status(vm_name=here.name)
    states = [each.state for each in found if each.name == here.name and each.state]
    if not states:
        raise InfrastructureError("Vagrant does not say how it is", where=here.name, do=f"read {here.log}")
    return str(states[0])


@contextmanager
def errors(here: Place) -> Iterator[None]:
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
