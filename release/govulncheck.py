"""Known vulnerabilities in Go programs, by govulncheck: it knows which packages a program really has.

Without a database there is no result, and that is an error: nothing was looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.tools.resolver import tool
from release.findings import Finding, Result, Scanner

if TYPE_CHECKING:
    from countersign.console.config import Settings

NAME = "govulncheck"
DATABASE = "https://vuln.go.dev"
KEPT = (
    *("PATH", "HOME", "SSL_CERT_FILE"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
)
"""What of the environment a scanner sees."""
SECONDS = 600


def look(settings: Settings, programs: Sequence[Path], database: str) -> Result:
    """Look at programs.

    Args:
        settings: where govulncheck is found.
        programs: the files, at least one.
        database: a URL, or a folder with a copy of the database.

    Raises:
        InfrastructureError: the database cannot be had, or a program not be read.
    """
    govulncheck = tool(NAME, settings)
    where = database if "://" in database else Path(database).expanduser().resolve().as_uri()
    results = [_one(govulncheck, program, where) for program in programs]
    return Result(results[0].scanners, tuple(each for one in results for each in one.findings))


def _one(govulncheck: Path, program: Path, database: str) -> Result:
    """Return what is found in one program."""
    argv = [str(govulncheck), "-mode", "binary", "-format", "json", "-db", database, str(program)]
    environment = {key: value for key, value in os.environ.items() if key in KEPT}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    said = list(_documents(ended.stdout)) if ended.returncode == 0 else []
    config: dict[str, Any] = next((each["config"] for each in said if "config" in each), {})
    if not config.get("db_last_modified"):
        why = ended.stderr.strip() or "it names no database"
        do = "give --database, a URL or a folder with a copy of https://vuln.go.dev; nothing was looked at"
        raise InfrastructureError(f"govulncheck came to no result: {why}", where=database, do=do)
    aliases = {each["osv"]["id"]: tuple(each["osv"].get("aliases") or ()) for each in said if "osv" in each}
    found: dict[tuple[str, str], Finding] = {}
    for each in (one["finding"] for one in said if "finding" in one):
        at = each["trace"][0]
        key = each["osv"], at["module"]
        fixed = each.get("fixed_version", "")
        new = Finding(each["osv"], program.name, at["module"], at.get("version", ""), fixed, NAME)
        reached = "package" in at or (key in found and found[key].reached)
        found[key] = replace(new, reached=reached, aliases=aliases.get(new.id, ()))
    scanner = Scanner(NAME, str(config.get("scanner_version", "")), database, str(config["db_last_modified"]))
    return Result((scanner,), tuple(found[key] for key in sorted(found)))


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents that stand one after another."""
    decoder, position = json.JSONDecoder(), 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        yield document
