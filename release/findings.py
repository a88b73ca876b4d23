"""What scanners found in a release, and what comes of it: one outcome, whichever of them found what."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from countersign.console.errors import VerdictError

if TYPE_CHECKING:
    from release.exceptions import Excepted

PREDICATE = "https://cosign.sigstore.dev/attestation/vuln/v1"
"""The predicate type under which a result is attested; ``cosign verify-attestation --type vuln`` asks for it."""
SEVERITIES = ("negligible", "low", "medium", "high", "critical")
"""From harmless to worst; a vulnerability that nobody has rated yet has another word, such as unknown."""
_SCANNER = "https://github.com/countersign/countersign"
_TOLD = SEVERITIES.index("high")


@dataclass(frozen=True)
class Finding:
    """One vulnerability of one artefact.

    Attributes:
        id: as the scanner's database has it.
        aliases: its other names.
        program: the artefact: a program's file, or an image's platform.
        module: where it is: a module or a package.
        version: which of it is there.
        fixed: the version without it; empty for none.
        scanner: who found it.
        severity: one of ``SEVERITIES``; empty where the scanner rates nothing.
        reached: the program has the very package that is vulnerable, and not only its module.
        excused: why it does no harm, by a VEX document; empty where none says so.
    """

    id: str
    program: str
    module: str
    version: str
    fixed: str
    scanner: str
    severity: str = ""
    reached: bool = False
    aliases: tuple[str, ...] = ()
    excused: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that it is called."""
        return (self.id, *self.aliases)

    def counts(self, fail_on: str) -> bool:
        """Say whether it stops a release, if nothing excepts it.

        What is not rated counts where it is reached; what is, from ``fail_on`` on.
        """
        if self.excused:
            return False
        if self.severity not in SEVERITIES:
            return self.reached
        return SEVERITIES.index(self.severity) >= SEVERITIES.index(fail_on)

    def told(self) -> bool:
        """Say whether people are to see it even where it stops nothing."""
        return self.reached or (self.severity in SEVERITIES and SEVERITIES.index(self.severity) >= _TOLD)

    def __str__(self) -> str:
        """Return a line for people."""
        remedy = f"fixed in {self.fixed}" if self.fixed else "not fixed yet"
        rated = f"{self.severity}, " if self.severity else ""
        excused = f", no harm by VEX ({self.excused})" if self.excused else ""
        return f"{self.program}: {self.id} in {self.module} {self.version}, {rated}{remedy}{excused}"


@dataclass(frozen=True)
class Scanner:
    """Who looked: its name and version, its database, and when that was changed last (RFC 3339)."""

    name: str
    version: str
    database: str
    updated: str


@dataclass(frozen=True)
class Result:
    """What came of looking at everything.

    Attributes:
        scanners: who looked.
        findings: everything that was found.
    """

    scanners: tuple[Scanner, ...]
    findings: tuple[Finding, ...]


def excepted(finding: Finding, allowed: Mapping[str, Excepted]) -> Excepted | None:
    """Return the exception for a finding, by any of its names; None for none."""
    return next((allowed[name] for name in finding.names if name in allowed), None)


def check(result: Result, allowed: Mapping[str, Excepted], fail_on: str, today: dt.date) -> None:
    """Stop a release that has vulnerabilities which nothing excepts, or exceptions that hold no more.

    Raises:
        VerdictError: with the first, and how many more.
    """
    wrong = [f"the exception of {each.id} ended on {each.until}" for each in allowed.values() if each.expired(today)]
    wrong += [str(each) for each in result.findings if each.counts(fail_on) and not excepted(each, allowed)]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise VerdictError(f"{wrong[0]}{more}", do="update it, or except it with a reason and a last day")


def predicate(result: Result, allowed: Mapping[str, Excepted], fail_on: str, time: str) -> dict[str, Any]:
    """Return what is attested: scanners, databases, findings, and the exceptions that were needed."""
    found = {name for each in result.findings for name in each.names}
    used = [{**asdict(each), "until": each.until.isoformat()} for each in allowed.values() if each.id in found]
    findings = [{**asdict(each), "aliases": list(each.aliases)} for each in result.findings]
    first = result.scanners[0]
    return {
        "invocation": {"parameters": ["--fail-on", fail_on]},
        "scanner": {
            "uri": _SCANNER,
            "version": f"{first.name} {first.version}",
            "db": {"uri": first.database, "lastUpdate": first.updated},
            "result": {
                "scanners": [asdict(each) for each in result.scanners],
                "failOn": fail_on,
                "findings": findings,
                "exceptions": used,
            },
        },
        "metadata": {"scanStartedOn": time, "scanFinishedOn": time},
    }


def wrong(document: Mapping[str, Any], today: dt.date) -> tuple[str, str]:
    """Return reason and detail of what is wrong with an attested result today; two empty texts if nothing is."""
    try:
        result = document["scanner"]["result"]
        allowed = {str(each["id"]): dt.date.fromisoformat(each["until"]) for each in result["exceptions"]}
        findings = [Finding(**{**each, "aliases": tuple(each["aliases"])}) for each in result["findings"]]
        counting = [each for each in findings if each.counts(result["failOn"])]
        open_ = [each for each in counting if not set(each.names) & set(allowed)]
        ended = [f"the exception of {name} ended on {until}" for name, until in allowed.items() if today > until]
        looked = bool(result["scanners"])
    except (KeyError, TypeError, ValueError, AttributeError):
        looked = False
    if not looked:
        return "wrong-content", "it is not a result of a scan of this kind"
    if open_:
        return "vulnerable", str(open_[0])
    return ("expired-exception", ended[0]) if ended else ("", "")


def sarif(result: Result, allowed: Mapping[str, Excepted], fail_on: str) -> bytes:
    """Return the result as SARIF 2.1.0, which code scanning takes: a run for each scanner.

    What is excepted, or excused by VEX, is suppressed, with the reason.
    """
    runs = [_run(scanner, result.findings, allowed, fail_on) for scanner in result.scanners]
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": runs}
    return (json.dumps(document, indent=1) + "\n").encode()


def _run(scanner: Scanner, found: Sequence[Finding], allowed: Mapping[str, Excepted], fail_on: str) -> dict[str, Any]:
    findings = [each for each in found if each.scanner == scanner.name]
    names = sorted({each.id for each in findings})
    rules = [{"id": name, "helpUri": f"https://osv.dev/vulnerability/{name}"} for name in names]
    results = [_result(each, excepted(each, allowed), fail_on) for each in findings]
    driver = {"name": scanner.name, "version": scanner.version.removeprefix("v"), "informationUri": _SCANNER}
    return {"tool": {"driver": {**driver, "rules": rules}}, "results": results}


def _result(finding: Finding, allowed: Excepted | None, fail_on: str) -> dict[str, Any]:
    why = f"{allowed.reason} (until {allowed.until})" if allowed else finding.excused
    level = "error" if finding.counts(fail_on) or finding.reached else "warning" if finding.told() else "note"
    return {
        "ruleId": finding.id,
        "level": level,
        "message": {"text": str(finding)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": finding.program}}}],
        **({"suppressions": [{"kind": "external", "justification": why}]} if why else {}),
    }
