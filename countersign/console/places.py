"""The groups ``kind``, ``crio`` and ``vagrant`` of the configuration: places, and how they are made."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countersign.console import values
from countersign.console.errors import UsageError

MOST_WORKERS = 20
PROVIDERS = ("libvirt", "virtualbox", "lxc")
DISTRIBUTIONS = ("ubuntu", "debian", "rocky")
_MACHINE = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
_CLUSTER = re.compile(r"[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?")


@dataclass(frozen=True)
class KindSettings:
    """The cluster of the place ``kind``.

    Attributes:
        workers: how many nodes beside the control plane.
        image: a node image such as ``kindest/node:v1.37.0``; empty means kind's own, or one that is built here.
        engine: the Docker Engine, as a value of ``DOCKER_HOST``; empty means the one that answers.
        preinstalled: nodes refuse what is not signed before their containerd starts for the first time.
    """

    cluster: str = "countersign"
    workers: int = 1
    image: str = ""
    engine: str = ""
    preinstalled: bool = True


@dataclass(frozen=True)
class CrioSettings:
    """CRI-O.

    Attributes:
        binary: a CRI-O program on this machine, with ``pinns`` beside it; ``CRIO_BIN`` says the same.
        engine: ``strict`` lets CRI-O's own engine refuse what it cannot verify; ``lenient`` leaves that to the gate.
    """

    binary: Path | None = None
    engine: str = "strict"


@dataclass(frozen=True)
class VagrantSettings:
    """The machine of the place ``vagrant``.

    Attributes:
        provider: ``libvirt``, ``virtualbox`` or ``lxc``; empty means the first of them that works here.
        box: a box of the catalogue; ``built`` is the one that ``vagrant.box`` makes; empty means the
            distribution's public one (with lxc: the built one).
        machine: its name; several names are several machines.
        distribution: ``ubuntu`` (24.04), ``debian`` (12) or ``rocky`` (9), where no box is named.
        memory: MiB of a virtual machine.
        cpus: of a virtual machine.
        bridge: for lxc, a bridge with DHCP that is there already; empty means one of our own, without a way out.
    """

    provider: str = ""
    box: str = ""
    machine: str = "countersign"
    distribution: str = "ubuntu"
    memory: int = 2048
    cpus: int = 2
    bridge: str = ""


def kind(given: Mapping[str, Any]) -> KindSettings:
    """Return the group ``kind``. Raises UsageError: a value that cannot be read."""
    default = KindSettings()
    name, workers = values.text(given, "cluster", default.cluster, "kind."), str(given.get("workers", default.workers))
    if not _CLUSTER.fullmatch(name):
        raise UsageError(f"got {name!r}", where="kind.cluster", expected="lower-case letters, digits, dots and dashes")
    if not values.is_number(workers) or int(workers) > MOST_WORKERS:
        raise UsageError(f"got {workers!r}", where="kind.workers", expected=f"a number from 0 to {MOST_WORKERS}")
    return KindSettings(
        name,
        int(workers),
        values.text(given, "image", "", "kind."),
        values.text(given, "engine", "", "kind."),
        preinstalled=values.switch({"preinstalled": default.preinstalled, **given}, "preinstalled", "kind."),
    )


def crio(given: Mapping[str, Any]) -> CrioSettings:
    """Return the group ``crio``. Raises UsageError: a value that cannot be read."""
    engine = values.text(given, "engine", CrioSettings.engine, "crio.")
    if engine not in ("strict", "lenient"):
        raise UsageError(f"got {engine!r}", where="crio.engine", expected="strict or lenient")
    return CrioSettings(
        values.path({"binary": given.get("binary") or os.environ.get("CRIO_BIN")}, "binary", None), engine
    )


def vagrant(given: Mapping[str, Any]) -> VagrantSettings:
    """Return the group ``vagrant``. Raises UsageError: a value that cannot be read."""
    default = VagrantSettings()
    texts = {key: values.text(given, key, getattr(default, key), "vagrant.") for key in ("provider", "box", "bridge")}
    machine = values.text(given, "machine", default.machine, "vagrant.")
    if not _MACHINE.fullmatch(machine):
        raise UsageError(
            f"got {machine!r}", where="vagrant.machine", expected="up to 30 lower-case letters, digits and dashes"
        )
    if texts["provider"]:
        values.one_of(texts["provider"], "vagrant.provider", PROVIDERS)
    distribution = values.text(given, "distribution", default.distribution, "vagrant.")
    return VagrantSettings(
        **texts,
        machine=machine,
        distribution=values.one_of(distribution, "vagrant.distribution", DISTRIBUTIONS),
        memory=values.number(given.get("memory") or default.memory, "vagrant.memory", 512),
        cpus=values.number(given.get("cpus") or default.cpus, "vagrant.cpus", 1),
    )
