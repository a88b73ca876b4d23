"""One verification of a release, from its files to its images and tags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import UsageError, VerdictError
from countersign.oci.access import docker_configs, hosts_folder, registry
from countersign.oci.proxy import from_environment
from release import log, page
from release import version as versions
from release.made import Folder, Release
from release.notary import ByCertificate
from release.trust import ByIdentity, ByKey, Trust
from release.verify import Checker, Finding, scratch, verify_files
from release.verify_images import verify_images
from signing.verify import Access, program

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.model import Project


@dataclass(frozen=True)
class Verified:
    """What came of it.

    Attributes:
        findings: of every artefact.
        release: what the release consists of; None if that is not known.
        commands: with which the same can be seen without this program.
        log: what was not looked for in the transparency log, and why; empty where all was.
    """

    findings: list[Finding]
    release: Release | None
    commands: list[str]
    log: str = ""

    def check(self) -> Release:
        """Return the release if everything is good.

        Raises:
            VerdictError: something is refused.
        """
        refused = [each for each in self.findings if each.reason]
        if refused or self.release is None:
            more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
            what = f"{refused[0].what}: {refused[0].reason}{more}"
            raise VerdictError(what, expected="a release in which all is good", do="do not install or publish it")
        return self.release

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "ok": not any(each.reason for each in self.findings),
            "release": self.release.as_json() if self.release else None,
            "findings": [each.as_json() for each in self.findings],
            "commands": self.commands,
            "log": {"looked": not self.log, "why": self.log},
        }


@dataclass(frozen=True)
class Place(Folder):
    """A folder that has the files themselves, as a stranger downloads them."""

    @property
    def files(self) -> Path:
        """The folder."""
        return self.path


def trusted(project: Project, key: str) -> Trust:
    """Return whom to trust: the key that was given, else whom ``release.yaml`` names; never what came along.

    Raises:
        UsageError: there is no such key.
    """
    path = Path(key).expanduser() if key else project.key
    if path is None and project.identity:
        root = project.identity.trusted_root
        if not root.is_file():
            do = f"bring it: ./inv trust.update --out {root}; or give --key FILE for a keyed release"
            raise UsageError("there is no trusted root", where=str(root), do=do)
        return ByIdentity(project.identity.issuer, project.identity.subject, project.identity.trusted_root)
    if path is None or not path.is_file():
        raise UsageError("there is no such public key", where=str(path), do="give --key FILE, from a source you trust")
    return ByKey(path.resolve())


def certified(project: Project) -> ByCertificate | None:
    """Return by whose certificate images have to be signed in the format notation; None where none is asked for."""
    return ByCertificate(project.notary.roots, project.notary.identity) if project.notary else None


def place(settings: Settings, project: Project, version: str, folder: str) -> Folder:
    """Return where the files lie.

    Raises:
        UsageError: there is no such folder.
    """
    if folder:
        found: Folder = Place(Path(folder).expanduser().resolve())
    else:
        wanted = versions.check(version) if version else versions.own(project)
        found = Place(Folder(settings.state / "release" / f"{project.name}-{wanted}").files)
    if not found.files.is_dir():
        raise UsageError(
            "there is no such folder", where=str(found.files), do="download the release, and give --folder"
        )
    return found


def verify(settings: Settings, project: Project, version: str, folder: Folder, trust: Trust, *, tags: bool) -> Verified:
    """Verify all of a release.

    Raises:
        RegistryError: a registry cannot be asked.
        MissingError: the gate's program is not there and cannot be built.
    """
    checker, notary = Checker(program(settings), trust), certified(project)
    release: Release | None = None
    findings: list[Finding] = []
    for each in _of_files(checker, folder, project, version):
        if isinstance(each, Release):
            release = each
        else:
            findings.append(each)
    if release is None:
        return Verified(findings, None, [])
    access = Access(hosts_folder(settings), docker_configs(settings))
    with scratch() as private:
        client = registry(settings)
        findings += verify_images(checker, client, release, access, Path(private), notary, tags=tags)
    found, why = logged(settings, checker)
    return Verified([*findings, *found], release, page.commands(release, trust, folder.files, notary, tags=tags), why)


def logged(settings: Settings, checker: Checker) -> tuple[list[Finding], str]:
    """Look for what holds in the transparency log; return what came of it, and why not for what was not looked for."""
    if not isinstance(checker.trusted, ByIdentity):
        return [], "a release that is signed by a key need not be in any"
    if settings.offline:
        return [], "the network must not be used (INVOKE_OFFLINE); what the log signed was verified all the same"
    wanted = log.entries(checker.held.items(), checker.trusted.trusted_root.read_bytes())
    came = log.look(wanted, from_environment(os.environ))
    found = [Finding(f"{each}: log") for each in came.there]
    found += [Finding(f"{each}: log", "not-in-log", said) for each, said in came.missing.items()]
    return found, f"{came.why_not}; what the log signed was verified all the same" if came.why_not else ""


def _of_files(checker: Checker, folder: Folder, project: Project, version: str) -> Iterator[Finding | Release]:
    wanted = versions.check(version) if version else ""
    return verify_files(checker, folder, project.name, wanted)
