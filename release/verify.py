"""Whether a release is what it says it is: what a stranger runs, with its files and a key or identity to trust.

Every signature is verified by the gate's program; what is compared here are digests and names. The folder is not
believed in anything that is not signed: first the checksums, then the document that they name, then what that names.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import UsageError
from release import checksums, findings, provenance, sbom, scan, statement, trust
from release.attest import ATTESTATION
from release.made import BUNDLE, FILE_NAME, SBOMS, SUMS, File, Folder, Release, parse, sha256

if TYPE_CHECKING:
    from release.trust import Trust

REASONS = {
    "missing": "it is not there",
    "tampered": "its content is not that of its checksum or digest",
    "unsigned": "there is no signature",
    "unattested": "there is no attestation of this kind",
    "bad-signature": "there is a signature, and it is not by whom is trusted",
    "wrong-identity": "it is signed by somebody else",
    "other-subject": "it is signed, and about something else",
    "other-release": "it is of another release",
    "wrong-content": "it is signed, and says what does not fit the release",
    "vulnerable": "it has a known vulnerability that nothing excepts",
    "expired-exception": "a vulnerability was excepted until a day that has passed",
    "unlisted": "the checksums do not have it",
    "not-in-log": "the transparency log does not show its entry",
    "moved-tag": "the tag points at something else",
    "refused": "the gate's engine refuses the image; its own code says why",
}
"""The closed list of what is said of an artefact that is refused."""
_LIMIT = 16 << 20  # bytes


@dataclass(frozen=True)
class Finding:
    """What came of one artefact.

    Attributes:
        what: the artefact, and which of its proofs.
        reason: empty if it is good, else one of ``REASONS``.
        detail: what was found and what was expected.
    """

    what: str
    reason: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {"what": self.what, "ok": not self.reason, "reason": self.reason, "detail": self.detail}


class Refused(Exception):
    """An artefact is not what it should be."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Checker:
    """What verifies: the gate's program, and whom to trust.

    Attributes:
        program: ``countersign-gate``.
        trusted: a key or an identity.
        held: what the bundles that hold are of → their content.
    """

    program: Path
    trusted: Trust
    held: dict[str, bytes] = field(default_factory=dict)

    def bundle(self, bundle: Path, about: str) -> None:
        """Have the gate verify a bundle over a file, or over ``sha256:HEX``.

        Raises:
            Refused: it does not hold.
        """
        if not bundle.is_file():
            raise Refused("unsigned", f"there is no {bundle.name}")
        good, _, said = self._verify(bundle, about)
        if good:
            name = bundle.name if not about.startswith("sha256:") else f"{about}: {statement.kind(_read(bundle))}"
            self.held[name] = _read(bundle)
            return
        digest = about if about.startswith("sha256:") else f"sha256:{sha256(Path(about))}"
        for other in statement.claimed(_read(bundle)):
            if f"sha256:{other}" != digest and self._verify(bundle, f"sha256:{other}")[0]:
                reason = "tampered" if statement.of_file(_read(bundle)) else "other-subject"
                raise Refused(reason, f"it is signed, and about sha256:{other}; expected {digest}")
        detail = " ".join(said.removeprefix(f"refused: {bundle}: ").split())
        reason = "wrong-identity" if "expected" in detail and "--key" not in self.trusted.blob() else "bad-signature"
        raise Refused(reason, f"{detail}; expected {self.trusted.shown()}")

    def _verify(self, bundle: Path, about: str) -> tuple[bool, str, str]:
        return trust.run(self.program, ["verify-bundle", "--bundle", bundle, *self.trusted.blob(), "--", about])


def verify_files(checker: Checker, folder: Folder, project: str, version: str) -> Iterator[Finding | Release]:
    """Verify the files of a release; yield what came of each, and the release once it is known.

    Args:
        checker: what verifies.
        folder: where the files lie.
        project: the name that the release must have; empty for any.
        version: the version that it must have; empty for any.
    """
    try:
        checker.bundle(folder.file(SUMS + BUNDLE), str(_there(folder, SUMS)))
        sums = checksums.parse(_read(folder.file(SUMS)), SUMS)
        release = _release(folder, sums, project, version)
    except Refused as err:
        yield Finding(SUMS, err.reason, err.detail)
        return
    except UsageError as err:
        yield Finding(SUMS, "wrong-content", str(err))
        return
    yield Finding(SUMS)
    yield release
    for name, wanted in sums.items():
        yield _summed(folder, name, wanted)
    for path in sorted(folder.files.iterdir()):
        if path.name not in sums and path.name not in (SUMS, SUMS + BUNDLE):
            yield Finding(path.name, "unlisted", f"{SUMS} does not have it; expected only what it has")
    for name in (*(each.name for each in release.files), release.manifest):
        yield _found(f"{name}: signature", lambda name=name: _signature(checker, folder, sums, name))
    yield from _attestations(checker, folder, release)


def _attestations(checker: Checker, folder: Folder, release: Release) -> Iterator[Finding]:
    """Verify what files are attested with, and images by files."""
    for file in release.files:
        yield _found(f"{file.name}: provenance", lambda file=file: _built(checker, folder, release, file))
        if release.scanned and file.kind == "program":
            yield _found(f"{file.name}: scan", lambda file=file: _scanned(checker, folder, release, file))
        for form in SBOMS if file.kind == "program" else ():
            yield _found(f"{file.name}: {form}", lambda file=file, form=form: _inventory(checker, folder, file, form))

    for name, value in scan.platforms(release).items() if release.scanned else ():
        yield _found(f"{name}: scan", lambda about=f"sha256:{value}": _scan_of(checker, folder, release, about))


def _release(folder: Folder, sums: Mapping[str, str], project: str, version: str) -> Release:
    """Return the release that signed checksums are of.

    Raises:
        Refused: it is another one than asked for, or than what lies beside.
    """
    named = [name for name in sums if name.endswith(".release.json")]
    if len(named) != 1:
        raise Refused("wrong-content", f"it has {len(named)} documents NAME.release.json; expected one")
    lies = sorted(path.name for path in folder.files.glob("*.release.json"))
    if named != lies and lies:
        raise Refused("other-release", f"it is of {named[0]}, and what lies here is {', '.join(lies)}")
    path = _there(folder, named[0])
    if sha256(path) != sums[named[0]]:
        raise Refused("tampered", f"{named[0]} is sha256:{sha256(path)}; expected sha256:{sums[named[0]]}")
    release = parse(_read(path), named[0])
    if release.manifest != named[0] or (project or release.project) != release.project:
        raise Refused("other-release", f"it is of {release.title}; expected {project or named[0]}")
    if (version or release.release) != release.release:
        raise Refused("other-release", f"it is of {release.title}; expected {project or release.project}-{version}")
    return release


def _summed(folder: Folder, name: str, wanted: str) -> Finding:
    path = folder.file(name)
    if not path.is_file():
        return Finding(name, "missing", f"{SUMS} has it; expected sha256:{wanted}")
    found = sha256(path)
    return Finding(name) if found == wanted else Finding(name, "tampered", f"sha256:{found}; expected sha256:{wanted}")


def _found(what: str, check: Any) -> Finding:
    try:
        check()
    except Refused as err:
        return Finding(what, err.reason, err.detail)
    except sbom.BadSbom as err:
        return Finding(what, "wrong-content", str(err))
    return Finding(what)


def _signature(checker: Checker, folder: Folder, sums: Mapping[str, str], name: str) -> None:
    if name not in sums:
        raise Refused("unlisted", f"{SUMS} does not have {name}, of which the release consists")
    checker.bundle(folder.file(name + BUNDLE), str(_there(folder, name)))


def _built(checker: Checker, folder: Folder, release: Release, file: File) -> None:
    path = folder.file(release.provenance)
    predicate = _attested(checker, path, provenance.PREDICATE, str(_there(folder, file.name)))
    if wrong := provenance.wrong(predicate, release):
        raise Refused("wrong-content", f"{path.name}: {wrong}")


def _inventory(checker: Checker, folder: Folder, file: File, form: str) -> None:
    path = folder.file(file.name + ATTESTATION[form])
    predicate = _attested(checker, path, sbom.PREDICATES[form], str(_there(folder, file.name)))
    document = sbom.check(form, _read(_there(folder, file.name + SBOMS[form])), file.name + SBOMS[form])
    if predicate != document:
        raise Refused("wrong-content", f"{file.name + SBOMS[form]} is not what {path.name} attests")
    if (about := sbom.about(form, document)) != file.sha256:
        raise Refused("other-subject", f"it is of sha256:{about}; expected sha256:{file.sha256}")


def _scanned(checker: Checker, folder: Folder, release: Release, file: File) -> None:
    _scan_of(checker, folder, release, str(_there(folder, file.name)))


def _scan_of(checker: Checker, folder: Folder, release: Release, about: str) -> None:
    path = folder.file(release.scan)
    predicate = _attested(checker, path, findings.PREDICATE, about)
    reason, detail = findings.wrong(predicate, dt.datetime.now(dt.timezone.utc).date())
    if reason:
        raise Refused(reason, f"{path.name}: {detail}")


def _attested(checker: Checker, bundle: Path, predicate_type: str, about: str) -> dict[str, Any]:
    """Return the predicate of an attestation that holds.

    Raises:
        Refused: there is none, or it does not hold.
    """
    if not bundle.is_file():
        raise Refused("unattested", f"there is no {bundle.name}")
    checker.bundle(bundle, about)
    found, _, predicate = statement.read(_read(bundle), bundle.name)
    if found != predicate_type:
        raise Refused("unattested", f"{bundle.name} states {found}; expected {predicate_type}")
    return predicate


def _there(folder: Folder, name: str) -> Path:
    if not FILE_NAME.fullmatch(name) or not folder.file(name).is_file():
        raise Refused("missing", f"there is no {name}")
    return folder.file(name)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise Refused("wrong-content", f"{path.name} is over {_LIMIT >> 20} MiB")
    return content


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a private folder for what the gate's program reads."""
    return tempfile.TemporaryDirectory(prefix="countersign-release-")
