"""Known vulnerabilities of what SBOMs and images name, by severity, by grype: any ecosystem, VEX respected.

Without a database there is no result, and that is an error: nothing was looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countersign.console.errors import InfrastructureError, UsageError
from countersign.tools.resolver import tool
from release.findings import Finding, Result, Scanner
from release.govulncheck import KEPT, SECONDS

if TYPE_CHECKING:
    from countersign.console.config import Settings

NAME = "grype"
_STAMP = re.compile(r"^\[[0-9]+\] +[A-Z]+ +", re.MULTILINE)
"""What stands before an entry of its log, which may have several lines."""
_TOLD = 400  # characters of what grype says
_DO = "give --grype-database, a folder, an archive or a mirror's URL (release/README.md); nothing was looked at"


@dataclass(frozen=True)
class Target:
    """What is looked at.

    Attributes:
        name: the artefact that findings are of.
        source: in grype's words: ``sbom:FILE``, ``oci-dir:FOLDER``.
        platform: of an image.
    """

    name: str
    source: str
    platform: str = ""


def environment(settings: Settings, database: str) -> dict[str, str]:
    """Return what grype runs with; an archive is unpacked for it first, and a mirror asked for its database.

    Args:
        settings: where grype is found, and its database kept.
        database: a folder that has the database as grype keeps it (``6/vulnerability.db``), an archive as grype's
            mirrors serve it, or the URL of a mirror's ``latest.json``; empty for what ``GRYPE_DB_…`` says, or
            else grype's own.

    Raises:
        UsageError: there is no such folder or file; a URL has a password.
        InfrastructureError: the archive is none; the mirror does not answer, or with another archive than it lists.
    """
    own = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith("GRYPE_DB_")}
    found = {**own, "GRYPE_CHECK_FOR_APP_UPDATE": "false", "NO_COLOR": "1"}
    if settings.offline:
        found["GRYPE_DB_AUTO_UPDATE"] = "false"
    if not database:
        return found
    kept = {**found, "GRYPE_DB_AUTO_UPDATE": "false"}
    if "://" in database:
        if "@" in urlsplit(database).netloc:
            # The result names the database that it rests on, and is published.
            raise UsageError("the URL has a user or a password", where="grype's database", expected="one without")
        # By mirror, so that what one served never stands in for another; a scan by itself would go on with what an
        # earlier one left where the mirror is down.
        shelf = settings.cache / "grype-mirrored" / hashlib.sha256(database.encode()).hexdigest()[:12]
        kept |= {"GRYPE_DB_UPDATE_URL": database, "GRYPE_DB_CACHE_DIR": str(shelf)}
        if not settings.offline:
            _bring(settings, ["update"], kept, database)
        return kept
    path = Path(database).expanduser().resolve()
    if path.is_dir():
        return {**kept, "GRYPE_DB_CACHE_DIR": str(path)}
    if not path.is_file():
        raise UsageError("there is no such database", where=str(path), expected="a folder, an archive or a URL")
    kept["GRYPE_DB_CACHE_DIR"] = str(settings.state / "grype")
    _bring(settings, ["import", str(path)], kept, str(path))
    return kept


def _bring(settings: Settings, words: Sequence[str], variables: Mapping[str, str], where: str) -> None:
    ended = _run([str(tool(NAME, settings)), "db", *words], variables)
    if ended.returncode:
        raise InfrastructureError(f"grype cannot read it: {_last(ended.stderr)}", where=where, do=_DO)


def look(settings: Settings, targets: Sequence[Target], variables: Mapping[str, str], vex: Sequence[Path]) -> Result:
    """Look at artefacts.

    Args:
        settings: where grype is found.
        targets: at least one.
        variables: as ``environment`` gives them.
        vex: OpenVEX or CSAF documents that say what does no harm.

    Raises:
        InfrastructureError: there is no database that can be used, or an artefact cannot be read.
    """
    grype = str(tool(NAME, settings))
    results = [_one(grype, each, variables, vex) for each in targets]
    return Result(results[0].scanners, tuple(each for one in results for each in one.findings))


def _one(grype: str, target: Target, variables: Mapping[str, str], vex: Iterable[Path]) -> Result:
    platform = ["--platform", target.platform] if target.platform else []
    documents = [word for each in vex for word in ("--vex", str(each))]
    ended = _run([grype, target.source, "--output", "json", *platform, *documents], variables)
    if ended.returncode:
        raise InfrastructureError(f"grype came to no result: {_last(ended.stderr)}", where=target.name, do=_DO)
    try:
        document = json.loads(ended.stdout)
        about = document["descriptor"]
        status = about["db"]["status"]
        scanner = Scanner(NAME, about["version"], str(status["from"] or "a file"), str(status["built"]))
        good = bool(status["valid"] and status["built"])
        findings = tuple(_findings(document, target))
    except (ValueError, KeyError, TypeError) as err:
        raise InfrastructureError("grype's answer cannot be read", where=target.name) from err
    if not good:
        raise InfrastructureError("grype's database cannot be used", where=scanner.database, do=_DO)
    return Result((scanner,), findings)


def _findings(document: Mapping[str, Any], target: Target) -> Iterator[Finding]:
    for each in document["matches"]:
        yield _finding(each, target, "")
    for each in document.get("ignoredMatches") or ():
        rules = [rule for rule in each["appliedIgnoreRules"] if rule.get("vex-status")]
        if rules:  # what else grype leaves out, such as duplicates between databases, is no finding
            yield _finding(each, target, str(rules[0]["vex-status"]))


def _finding(match: Mapping[str, Any], target: Target, excused: str) -> Finding:
    about, artifact = match["vulnerability"], match["artifact"]
    related = dict.fromkeys(str(each["id"]) for each in match.get("relatedVulnerabilities") or ())
    related.pop(about["id"], None)
    return Finding(
        id=str(about["id"]),
        program=target.name,
        module=str(artifact["name"]),
        version=str(artifact["version"]),
        fixed=", ".join(about["fix"].get("versions") or ()),
        scanner=NAME,
        severity=str(about.get("severity") or "unknown").lower(),
        aliases=tuple(related),
        excused=excused,
    )


def _run(argv: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, env=dict(variables), capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise InfrastructureError(f"did not end in {SECONDS} s; nothing was looked at", where=NAME) from err


def _last(text: str) -> str:
    """Return what grype says last, which is why it ends: an entry of its log, in one line."""
    entry = _STAMP.split(text.strip())[-1]
    return " ".join(entry.split())[:_TOLD] or "it says nothing"
