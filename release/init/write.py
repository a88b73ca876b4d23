"""Writes what `release.init` makes: all of it or nothing, and over nothing that somebody has changed."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from countersign.console.errors import UsageError
from countersign.nodes.template import render
from countersign.trust import tuf
from release import git
from release.init import found
from release.load import load
from release.made import write

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.model import Project

HERE = Path(__file__).resolve().parent
WORKFLOW = ".github/workflows/release.yml"
ISSUER = "https://token.actions.githubusercontent.com"
POLICIES = "release/policies"
TRUSTED_ROOT = f"{POLICIES}/trusted_root.json"
EXCEPTIONS = "release/vulnerable.yaml"


@dataclass(frozen=True)
class Signed:
    """What workflow and policies follow from.

    Attributes:
        source: the project's repository.
        images: their full names.
        subject: who signs.
        trusted_root: the file's path from the project's root.
    """

    source: str
    images: tuple[str, ...]
    subject: str
    trusted_root: str


def plan(path: Path, source: str, countersign: str, settings: Settings) -> tuple[Mapping[str, bytes], list[str]]:
    """Return file, from the project's root, → content of all that ``release.init`` makes, and what is to be told of it.

    A release.yaml that is there is kept, and the rest follows from it.

    Args:
        path: the release.yaml.
        source: the repository's URL; empty for that of its remote ``origin``.
        countersign: the commit of countersign that is to release it.
        settings: by which the gate is found, which renders CRI-O's policy.

    Raises:
        UsageError: the repository, or the release.yaml that is there, cannot be used.
    """
    root = path.parent
    files: dict[str, bytes] = {}
    notes: list[str] = []
    if path.exists():
        signed = _read(load(path))
    else:
        there = found.look(root, source)
        signed = Signed(there.source, (f"{there.registry}/{there.image}",), _subject(there.source), TRUSTED_ROOT)
        files[path.name] = render(
            HERE / "release.yaml.j2", found=there, signed=signed, issuer=ISSUER, exceptions=EXCEPTIONS
        )
        files[EXCEPTIONS] = (HERE / "vulnerable.yaml").read_bytes()
    if not (root / signed.trusted_root).is_file():
        files[signed.trusted_root] = _trusted_root()
    below = git.prefix(root)  # GitHub reads workflows at a repository's root alone
    workflow = "../" * below.count("/") + WORKFLOW
    project = shlex.quote(f"project/{below}{path.name}")
    files[workflow] = render(HERE / "workflow.yml.j2", signed=signed, countersign=countersign, project=project)
    if signed.images:
        rendered, notes = _policies(settings, root, signed)
        files |= rendered
    return files, notes


def put(root: Path, files: Mapping[str, bytes], *, force: bool, plan: bool) -> list[str]:
    """Write the files that are not there as they should be (with ``plan`` none); return their names.

    Raises:
        UsageError: another file is there, and ``force`` is not given; nothing was written.
    """
    due = [name for name, content in files.items() if _there(root / name) != content]
    others = [name for name in due if (root / name).exists()]
    if others and not force:
        more = f" and {', '.join(others[1:])}" if others[1:] else ""
        do = "--force writes over it; git has what was committed"
        raise UsageError(f"{others[0]}{more} is there already, and differs", where=str(root), do=do)
    for name in () if plan else due:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, files[name])
    return due


def _there(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _subject(source: str) -> str:
    return f"{source}/{WORKFLOW}@refs/tags/v*"


def _read(project: Project) -> Signed:
    """Return what follows from a release.yaml that is there; it has to be signed by the workflow that is written."""
    identity, subject = project.identity, _subject(project.source)
    if identity is None or (identity.issuer, identity.subject) != (ISSUER, subject):
        got = "a key" if identity is None else f"{identity.subject} by {identity.issuer}"
        raise UsageError(
            f"names {got}", where="release.yaml: sign", expected=f"the identity {subject} by {ISSUER}",
            do="correct it, or write workflow and policies by hand",
        )  # fmt: skip
    images = tuple(f"{project.registry}/{each.name}" for each in project.images)
    return Signed(project.source, images, subject, str(identity.trusted_root.relative_to(project.root)))


def _trusted_root() -> bytes:
    """Return the public Sigstore's, as the sigstore package ships it; ``trust.update`` brings a newer one."""
    return (resources.files("sigstore") / "_store" / quote(tuf.PUBLIC, safe="") / "trusted_root.json").read_bytes()


def _policies(settings: Settings, root: Path, signed: Signed) -> tuple[Mapping[str, bytes], list[str]]:
    """Return the policies for those who run the images, and what other engines than the gate leave to it."""
    from countersign.policy import crio, gatekeeper, kyverno
    from countersign.policy.load import load as load_policy
    from countersign.policy.part import part

    beside = os.path.relpath(root / signed.trusted_root, root / POLICIES)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, POLICIES, "policy.yaml")
        source.parent.mkdir(parents=True)
        source.write_bytes(render(HERE / "policy.yaml.j2", signed=signed, issuer=ISSUER, trusted_root=beside))
        copy = Path(scratch, signed.trusted_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(_there(root / signed.trusted_root) or _trusted_root())
        policy = load_policy(source)
        files = {
            f"{POLICIES}/policy.yaml": source.read_bytes(),
            f"{POLICIES}/kyverno.yaml": kyverno.render(policy),
            f"{POLICIES}/gatekeeper.yaml": gatekeeper.render(policy),
            f"{POLICIES}/crio.json": crio.render(policy, settings).policy,
        }
    engines = {"kyverno.yaml": kyverno.ENGINES["kyverno"], "crio.json": crio.ENGINE}
    left = [f"{name}: {line}" for name, engine in engines.items() for line in part(policy, engine)[1]]
    return files, [*left, *(f"gatekeeper.yaml: {line}" for line in gatekeeper.LIMITS)]
