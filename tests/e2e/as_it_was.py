"""Set up and clean a node in a mount namespace of its own, and compare; see `test_as_it_was`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from containerd.machine import Machine as Containerd
from containerd.survey import Survey
from countersign.console.config import Settings
from countersign.console.steps import run_steps
from countersign.enforcement.additions import NOTHING
from countersign.nodes.host import HOST
from countersign.runtimes.systemd import SystemdMachine, Taken
from countersign.runtimes.work import TOOLS, steps, work
from countersign.tools.resolver import install
from crio.effective import Effective
from crio.machine import Machine as Crio

SEEN = ("/etc", "/opt", "/usr/local", "/var/lib", "/var/log")
DIGEST = "sha256:" + "a" * 64
SANDBOX = f"registry.example/pause@{DIGEST}"
CONFIG = b"""version = 3
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
SPEC = b'{"process": {"args": ["sh"]}}'
STATE = "ActiveState=active\\nNRestarts=0\\nMainPID=1\\nUnitFileState=enabled\\nNeedDaemonReload=no\\n"
PROGRAMS = {"systemctl": f"printf '{STATE}'", "containerd": "exit 0", "crio": "exit 0", "ctr": "echo REF TYPE DIGEST"}


def main(runtime: str, given: str, folder: Path) -> None:
    programs = install(TOOLS, Settings())
    _private(folder)
    if given == "used":
        _used()
    machine = _containerd(folder) if runtime == "containerd" else _crio(folder)
    policy = folder / "policy.yaml"
    policy.write_text("apiVersion: countersign/v1\ndefault: reject\nscopes: {registry.example/app: reject}\n")
    before = _fingerprint()
    given_to_it: Any = work(Settings(policy=policy, state=folder), machine, (SANDBOX,), programs)
    run_steps(steps(given_to_it))
    assert _fingerprint() != before, "set-up changed nothing"
    run_steps([machine.restored(())])
    after = _fingerprint()
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            sys.stderr.write(f"{path}: before {before.get(path)}, after {after.get(path)}\n")
    assert before == after
    sys.stdout.write("changed by set-up, and as it was after clean\n")


def _private(folder: Path) -> None:
    """Have copies of small folders, and empty ones of large ones, that nobody else sees; and the stand-ins."""
    for path in SEEN:
        copy = folder / path.strip("/").replace("/", "-")
        copy.mkdir()
        if path == "/etc":
            subprocess.run(["cp", "-a", "/etc/.", str(copy)], check=True)
        subprocess.run(["mount", "--bind", str(copy), path], check=True)
    for path in ("/etc/containerd", "/etc/crio", "/etc/containers", "/etc/countersign"):
        subprocess.run(["rm", "-rf", path], check=True)
    Path("/usr/local/bin").mkdir(mode=0o2775)
    Path("/usr/local/bin").chmod(0o2775)
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, body in PROGRAMS.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_folder / name).chmod(0o755)
    os.environ["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
    Path("/etc/containerd").mkdir(mode=0o750)


def _used() -> None:
    """Give the node what its user may have there: empty folders, odd modes, files of theirs, another time."""
    for path, mode in (
        *(("/etc/containerd/certs.d", 0o700), ("/opt/containerd/image-verifier", 0o711)),
        *(("/etc/containers/registries.d", 0o750), ("/etc/crio/crio.conf.d", 0o700)),
    ):
        Path(path).mkdir(parents=True)
        Path(path).chmod(mode)
    for path in ("/etc/containerd/config.toml", "/etc/containers/registries.d/mine.yaml", "/usr/local/bin/mine"):
        Path(path).write_text("version = 3 # mine\n" if path.endswith("toml") else "{}\n")
        Path(path).chmod(0o640)
        os.chown(path, 0, 7)
        os.utime(path, (1_000_000, 1_000_000))


def _answering(machine: SystemdMachine) -> SystemdMachine:
    for name in ("wait_until_it_answers", "wait_until_ready"):
        object.__setattr__(machine, name, lambda: None)
    return machine


def _containerd(folder: Path) -> SystemdMachine:
    survey = Survey(
        (2, 4, 2), CONFIG, {"/etc/countersign/base-runc.json": SPEC}, {"runc": "/etc/countersign/base-runc.json"},
        SANDBOX, "overlayfs", "/etc/containerd/certs.d", "linux/amd64", True, True, "/run/nri.sock",
    )  # fmt: skip
    return _answering(Containerd.as_set_up(Settings(state=folder), HOST, NOTHING, folder / "pins").surveyed(survey))


def _crio(folder: Path) -> SystemdMachine:
    found = Crio.as_set_up(Settings(state=folder), HOST, NOTHING, folder / "pins")
    known = Effective({}, SANDBOX, ("runc",), "/var/lib/containers", "/run/containers", systemd_cgroups=True)
    return _answering(replace(found, found=known).knowing(Taken((SANDBOX,), {"sandbox": SANDBOX})))


def _fingerprint() -> dict[str, tuple[object, ...]]:
    """Return path → kind, mode, owner, and of a file its time and content, of a link where it leads."""
    found: dict[str, tuple[object, ...]] = {}
    for place in SEEN:
        for above, folders, files in os.walk(place):
            for name in (*folders, *files):
                path = Path(above) / name
                with contextlib.suppress(FileNotFoundError):
                    about = path.lstat()
                    who = (about.st_mode, about.st_uid, about.st_gid)
                    if path.is_symlink():
                        found[str(path)] = (*who, path.readlink())
                    elif path.is_file():
                        found[str(path)] = (*who, about.st_mtime_ns, path.read_bytes())
                    else:
                        found[str(path)] = who
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
