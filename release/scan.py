"""Known vulnerabilities in a release's programs, by govulncheck; what is not excepted stops the release.

Without a database there is no result, and that is an error: nothing was looked at.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, VerdictError
from countersign.tools.resolver import tool

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.exceptions import Excepted

PREDICATE = "https://cosign.sigstore.dev/attestation/vuln/v1"
"""The predicate type under which a result is attested; ``cosign verify-attestation --type vuln`` asks for it."""
DATABASE = "https://vuln.go.dev"
_SCANNER = "https://golang.org/x/vuln/cmd/govulncheck"
_KEPT = (
    *("PATH", "HOME", "SSL_CERT_FILE"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
)
_SECONDS = 600


@dataclass(frozen=True)
class Finding:
    """One vulnerability of one program.

    Attributes:
        id: as the Go vulnerability database has it.
        program: the program's file.
        module: where it is.
        version: which that program has.
        fixed: the version without it; empty for none.
        reached: the program has the very package, and not only the module.
    """

    id: str
    program: str
    module: str
    version: str
    fixed: str
    reached: bool

    def __str__(self) -> str:
        """Return a line for people."""
        remedy = f"fixed in {self.fixed}" if self.fixed else "not fixed yet"
        return f"{self.program}: {self.id} in {self.module} {self.version}, {remedy}"


@dataclass(frozen=True)
class Result:
    """What came of looking at all programs.

    Attributes:
        scanner: its version.
        database: which.
        updated: when that was changed last (RFC 3339).
        findings: everything that was found.
    """

    scanner: str
    database: str
    updated: str
    findings: tuple[Finding, ...]


def scan(settings: Settings, programs: Sequence[Path], database: str) -> Result:
    """Look at programs.

    Args:
        settings: where govulncheck is found.
        programs: the files.
        database: a URL, or a folder with a copy of the database.

    Raises:
        InfrastructureError: the database cannot be had, or a program not be read.
    """
    govulncheck = tool("govulncheck", settings)
    where = database if "://" in database else Path(database).expanduser().resolve().as_uri()
    results = [_one(govulncheck, program, where) for program in programs]
    first = results[0]
    return Result(first.scanner, where, first.updated, tuple(each for one in results for each in one.findings))


def check(findings: Sequence[Finding], allowed: Mapping[str, Excepted], today: dt.date) -> None:
    """Stop a release that has vulnerabilities which nothing excepts, or exceptions that hold no more.

    Raises:
        VerdictError: with the first, and how many more.
    """
    wrong = [f"the exception of {each.id} ended on {each.until}" for each in allowed.values() if each.expired(today)]
    wrong += [str(each) for each in findings if each.reached and each.id not in allowed]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise VerdictError(f"{wrong[0]}{more}", do="update it, or except it with a reason and a last day")


def predicate(result: Result, allowed: Mapping[str, Excepted], time: str) -> dict[str, Any]:
    """Return what is attested: scanner, database, findings, and the exceptions that were needed."""
    found = {each.id for each in result.findings}
    used = [{**asdict(each), "until": each.until.isoformat()} for each in allowed.values() if each.id in found]
    return {
        "invocation": {"parameters": ["-mode", "binary"]},
        "scanner": {
            "uri": _SCANNER,
            "version": result.scanner,
            "db": {"uri": result.database, "lastUpdate": result.updated},
            "result": {"findings": [asdict(each) for each in result.findings], "exceptions": used},
        },
        "metadata": {"scanStartedOn": time, "scanFinishedOn": time},
    }


def wrong(document: Mapping[str, Any], today: dt.date) -> tuple[str, str]:
    """Return reason and detail of what is wrong with an attested result today; two empty texts if nothing is."""
    try:
        result = document["scanner"]["result"]
        allowed = {str(each["id"]): dt.date.fromisoformat(each["until"]) for each in result["exceptions"]}
        open_ = [Finding(**each) for each in result["findings"] if each["reached"] and each["id"] not in allowed]
        ended = [f"the exception of {name} ended on {until}" for name, until in allowed.items() if today > until]
    except (KeyError, TypeError, ValueError, AttributeError):
        return "wrong-content", "it is no result of a scan of this kind"
    if open_:
        return "vulnerable", str(open_[0])
    return ("expired-exception", ended[0]) if ended else ("", "")


def sarif(result: Result, allowed: Mapping[str, Excepted]) -> bytes:
    """Return the result as SARIF 2.1.0, which code scanning takes; what is excepted is suppressed, with the reason."""
    names = sorted({each.id for each in result.findings})
    rules = [{"id": name, "helpUri": f"https://pkg.go.dev/vuln/{name}"} for name in names]
    results = [
        {
            "ruleId": each.id,
            "level": "error" if each.reached else "note",
            "message": {"text": str(each)},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": each.program}}}],
            **({"suppressions": [_suppression(allowed[each.id])]} if each.id in allowed else {}),
        }
        for each in result.findings
    ]
    driver = {"name": "govulncheck", "version": result.scanner.removeprefix("v"), "informationUri": _SCANNER}
    run = {"tool": {"driver": {**driver, "rules": rules}}, "results": results}
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return (json.dumps(document, indent=1) + "\n").encode()


def _suppression(allowed: Excepted) -> dict[str, str]:
    return {"kind": "external", "justification": f"{allowed.reason} (until {allowed.until})"}


def _one(govulncheck: Path, program: Path, database: str) -> Result:
    """Return what is found in one program."""
    argv = [str(govulncheck), "-mode", "binary", "-format", "json", "-db", database, str(program)]
    environment = {key: value for key, value in os.environ.items() if key in _KEPT}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    said = list(_documents(ended.stdout)) if ended.returncode == 0 else []
    config: dict[str, Any] = next((each["config"] for each in said if "config" in each), {})
    if not config.get("db_last_modified"):
        why = ended.stderr.strip() or "it names no database"
        do = "give --database, a URL or a folder with a copy of https://vuln.go.dev; nothing was looked at"
        raise InfrastructureError(f"govulncheck came to no result: {why}", where=database, do=do)
    found: dict[tuple[str, str], Finding] = {}
    for each in (one["finding"] for one in said if "finding" in one):
        at = each["trace"][0]
        key = each["osv"], at["module"]
        reached = "package" in at or (key in found and found[key].reached)
        fixed = each.get("fixed_version", "")
        found[key] = Finding(each["osv"], program.name, at["module"], at.get("version", ""), fixed, reached)
    ordered = tuple(found[key] for key in sorted(found))
    return Result(str(config.get("scanner_version", "")), database, str(config["db_last_modified"]), ordered)


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents that stand one after another."""
    decoder, position = json.JSONDecoder(), 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        yield document
