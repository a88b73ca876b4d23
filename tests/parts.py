"""The parts of ``./inv test``: what each runs, and what it needs of the machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import MissingError
from countersign.tools.recipes import recipes
from countersign.tools.resolver import install, tool
from countersign.tools.toolchain import go_environment
from tests import fuzz, guards, turns
from tests.failures import CheckFailed

SOME_FAILED = 1
"""Pytest's exit code when tests ran and some failed."""
ON_MACHINES = tuple(
    f"tests/{name}/"
    for name in (
        "e2e",
        "chaos",
        "kind",
        "rollout",
        "gatekeeper",
        "fleet",
        "ssh",
        "vagrant",
        "vm",
        "crio",
        "crio_cluster",
    )
)
HEAVY = ("sigstore", "ct")
"""Recipes whose code needs so many packages that vetting takes minutes: the part ``sigstore`` builds and runs it."""
_RELEASING = (
    *("go", "nfpm", "govulncheck", "grype", "syft", "cosign", "helm", "kubeconform", "kubernetes-schemas", "registry"),
    *("actionlint", "zizmor"),
)
PYTHON_FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


@dataclass(frozen=True)
class Part:
    """One part of the tests.

    Attributes:
        name: what ``--part`` calls it.
        need: raises a ``CountersignError`` that says why the part cannot run here; brings what it can.
        check: runs it and raises ``CheckFailed``; None where pytest runs it.
        folder: what pytest runs, relative to the repository.
        budget: seconds that it may take on two cores with everything built.
    """

    name: str
    need: Callable[[Settings], object]
    budget: int
    check: Callable[[Settings], None] | None = None
    folder: str = ""


def lint(_: Settings) -> None:
    """Check the Python code's style and form."""
    _quiet([sys.executable, "-m", "ruff", "check", "."])
    _quiet([sys.executable, "-m", "ruff", "format", "--check", "."])


def types(_: Settings) -> None:
    """Check the Python code's types."""
    _quiet([sys.executable, "-m", "mypy", "tasks.py", *PYTHON_FOLDERS])


def go(settings: Settings) -> None:
    """Check the form of the Go code, vet it, and run its tests."""
    program = tool("go", settings)
    environment = go_environment(settings.cache, settings.offline)
    del environment["GOTMPDIR"]  # tests put sockets below it, whose paths must be short
    for recipe in recipes().values():
        if not recipe.folder or recipe.name in HEAVY:
            continue
        folder = ROOT / recipe.folder
        if not any(folder.rglob("*.go")):
            continue  # a go.mod alone, for programs of others
        untidy = _quiet([program.parent / "gofmt", "-l", "."], folder)
        if untidy:
            raise CheckFailed(f"not in gofmt's form: {untidy}", where=recipe.folder, do="run gofmt -w")
        for verb in ("vet", "test"):
            _quiet([program, verb, f"-tags={recipe.tags}", "./..."], folder, environment)


def pytest(folders: Sequence[str]) -> None:
    """Run pytest once over all folders, in full view; its closing line is the last.

    Tests on real machines wait for other programs on a machine that may be busy. Where none but such tests
    failed, these are tried once more, alone, and named.

    Raises:
        CheckFailed: a test failed, or there was none.
    """
    status = _pytest(folders)
    failed = _last_failed() if status == SOME_FAILED else []
    if failed and all(name.startswith(ON_MACHINES) for name in failed):
        output.warn(f"tried once more: {', '.join(failed)}")
        status = _pytest(["--last-failed", *folders])
    if status:
        raise CheckFailed(f"pytest ended with {status}", do="repeat with .venv/bin/pytest " + " ".join(folders))


def _pytest(words: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-p", "tests.timing", *words]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _last_failed() -> list[str]:
    """Return the names of the tests that failed in pytest's last run."""
    try:
        kept: dict[str, bool] = json.loads((ROOT / ".pytest_cache/v/cache/lastfailed").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return sorted(kept)


def spent(part: Part, seconds: float) -> str:
    """Return a line that compares what a part took with its budget."""
    over = "" if seconds <= part.budget else ": OVER"
    return f"part {part.name}: {seconds:.0f} s (budget {part.budget} s{over})"


def _nothing(_: Settings) -> None:
    """Need nothing beyond the environment."""


def _root(_: Settings) -> None:
    if os.geteuid() != 0:
        raise MissingError("it needs root", do="run as root")


def _engine(settings: Settings) -> None:
    _root(settings)
    from kind.engine import url

    url(settings)


def _release(settings: Settings) -> None:
    for program, package in (("git", "git"), ("dpkg-deb", "dpkg")):
        if shutil.which(program) is None:
            raise MissingError(f"there is no {program}", do=f"apt-get install {package}")
    install(_RELEASING, settings)


def _rollout(settings: Settings) -> None:
    _engine(settings)
    tool("helm", settings)


def _lxc(settings: Settings) -> None:
    _root(settings)
    from machines import boxes, needs, providers

    providers.check("lxc")
    if not boxes.box(settings, "lxc").built():
        needs.require("debootstrap")


def _libvirt(settings: Settings) -> None:
    _root(settings)
    from machines import boxes, needs, providers

    if settings.vagrant.provider != "libvirt":
        raise MissingError("it takes long, and libvirt is not chosen", do="set INVOKE_VAGRANT_PROVIDER=libvirt")
    providers.check("libvirt")
    if not boxes.box(settings, "libvirt").built():
        needs.require("debootstrap", "mke2fs", "qemu-img")


def _sshd(settings: Settings) -> None:
    _root(settings)
    for program, package in (("sshd", "openssh-server"), ("sudo", "sudo"), ("openssl", "openssl")):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            raise MissingError(f"there is no {program}", do=f"apt-get install {package}")


def _git(settings: Settings) -> None:
    tool("go", settings)
    if shutil.which("git") is None:
        raise MissingError("there is no git", do="apt-get install git")


def _crio(settings: Settings) -> None:
    from crio.private import program

    program(settings)


def _crio_cluster(settings: Settings) -> None:
    _lxc(settings)
    _crio(settings)
    install(["kubelet", "etcd", "helm", "registry", "countersign-gate"], settings)


def _sigstore(settings: Settings) -> None:
    from signing.stack.services import TOOLS

    install([*TOOLS, "cosign"], settings)


def _custody(settings: Settings) -> None:
    install(["bao", "countersign-gate", "cosign-pkcs11"], settings)


def _alerts(settings: Settings) -> None:
    install(["promtool", "go"], settings)


def _gatekeeper(settings: Settings) -> None:
    install(["gatekeeper", "kube-apiserver", "etcd", "kubectl", "registry", "countersign-gate"], settings)


def _fleet(settings: Settings) -> None:
    _root(settings)
    from lab.bench import small

    small.needs()
    api = ("kube-apiserver", "kube-controller-manager", "etcd", "kubectl")
    install([*api, *small.TOOLS, "countersign-gate", "countersign-hook"], settings)


def _chromium(_: Settings) -> None:
    from lab.report.browser import program

    program()


PARTS = (
    Part("lint", _nothing, 20, lint),
    Part("types", _nothing, 60, types),
    Part("go", lambda settings: tool("go", settings), 240, go),
    Part("unit", _nothing, 160, folder="tests/unit"),
    Part("guards", _git, 240, lambda settings: guards.check(settings, settings.tests.guards, turns.commit())),
    Part(
        "fuzz", lambda settings: tool("go", settings), 600, lambda settings: fuzz.check(settings, settings.tests.fuzz)
    ),
    Part("browser", _chromium, 60, folder="tests/browser"),
    Part("interop", lambda settings: tool("cosign", settings), 120, folder="tests/interop"),
    Part("kyverno", lambda settings: install(["kyverno-cli", "registry"], settings), 120, folder="tests/kyverno"),
    Part("sigstore", _sigstore, 180, folder="tests/sigstore"),
    Part("custody", _custody, 120, folder="tests/custody"),
    Part("alerts", _alerts, 60, folder="tests/alerts"),
    Part("ssh", _sshd, 120, folder="tests/ssh"),
    Part("e2e", _root, 420, folder="tests/e2e"),
    Part("release", _release, 600, folder="tests/release"),
    Part("chaos", _root, 120, folder="tests/chaos"),
    Part("kind", _engine, 300, folder="tests/kind"),
    Part("gatekeeper", _gatekeeper, 90, folder="tests/gatekeeper"),
    Part("fleet", _fleet, 120, folder="tests/fleet"),
    Part("rollout", _rollout, 420, folder="tests/rollout"),
    Part("vagrant", _lxc, 420, folder="tests/vagrant"),
    Part("vm", _libvirt, 1200, folder="tests/vm"),
    Part("crio", _crio, 420, folder="tests/crio"),
    Part("crio-cluster", _crio_cluster, 480, folder="tests/crio_cluster"),
)


def _quiet(command: Sequence[str | Path], cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a check and return what it wrote; that is shown only if it fails.

    Raises:
        CheckFailed: it did not exit with 0.
    """
    words = [str(part) for part in command]
    ended = subprocess.run(
        words, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ended.returncode:
        output.say(ended.stdout.rstrip())
        raise CheckFailed(f"{' '.join(words[:4])} … failed with {ended.returncode}", where=str(cwd))
    return ended.stdout.strip()
