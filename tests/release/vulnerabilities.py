"""Databases of vulnerabilities that nobody has, for both scanners: small, and made here."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.sources import load_settings
from countersign.tools.resolver import tool
from release.scan import Databases

CHANGED = "2026-11-01T00:00:00Z"
SCHEMA = Path(__file__).with_name("grype-v6.sql")


@dataclass(frozen=True)
class Flaw:
    """One vulnerability, in every version of a package.

    Attributes:
        severity: for grype.
        package: its name.
        ecosystem: as grype calls it.
        alias: another name of it.
    """

    severity: str = "critical"
    package: str = "stdlib"
    ecosystem: str = "go-module"
    alias: str = ""


def write(folder: Path, go: Sequence[str] = (), flaws: Mapping[str, Flaw] | None = None) -> Databases:
    """Write both; return where they are."""
    write_go(folder / "go", go)
    write_grype(folder / "grype", flaws or {})
    return Databases(str(folder / "go"), str(folder / "grype"))


def write_go(folder: Path, ids: Sequence[str], aliases: Sequence[str] = ()) -> None:
    """Write a Go vulnerability database in which every program has these, by its standard library."""
    for name in ("index", "ID"):
        (folder / name).mkdir(parents=True)
    (folder / "index" / "db.json").write_text(json.dumps({"modified": CHANGED}))
    listed = [{"id": name, "modified": CHANGED, "fixed": "1.99.0"} for name in ids]
    (folder / "index" / "modules.json").write_text(json.dumps([{"path": "stdlib", "vulns": listed}]))
    (folder / "index" / "vulns.json").write_text(json.dumps([{"id": name, "modified": CHANGED} for name in ids]))
    ranges = [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.99.0"}]}]
    affected = {"package": {"name": "stdlib", "ecosystem": "Go"}, "ranges": ranges}
    affected["ecosystem_specific"] = {"imports": [{"path": "runtime"}]}
    for name in ids:
        said = {"schema_version": "1.3.1", "id": name, "modified": CHANGED, "published": CHANGED}
        document = {**said, "aliases": list(aliases), "summary": "for a test", "details": "", "affected": [affected]}
        (folder / "ID" / f"{name}.json").write_text(json.dumps(document))


def write_grype(folder: Path, flaws: Mapping[str, Flaw], built: dt.datetime | None = None) -> None:
    """Write a database of grype's (version 6), below ``folder`` as grype keeps it."""
    folder.mkdir(parents=True)
    path = folder / "vulnerability.db"
    when = (built or dt.datetime.now(dt.timezone.utc)).strftime("%Y-%m-%d %H:%M:%S+00:00")
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA.read_text(encoding="utf-8"))
        database.execute("INSERT INTO db_metadata VALUES (?, 6, 1, 0)", (when,))
        database.execute("INSERT INTO providers VALUES ('github', '1', 'test', ?, 'xxh64:0')", (when,))
        for number, (name, flaw) in enumerate(flaws.items(), 1):
            _put(database, number, name, flaw)
    database.close()
    variables = {"GRYPE_DB_CACHE_DIR": str(folder), "GRYPE_DB_VALIDATE_AGE": "false", "HOME": str(folder)}
    argv = [str(tool("grype", load_settings())), "db", "import", str(path)]
    subprocess.run(argv, env=variables, check=True, capture_output=True)


def _put(database: sqlite3.Connection, number: int, name: str, flaw: Flaw) -> None:
    said = {"id": name, "severities": [{"scheme": "CHML", "value": flaw.severity, "rank": 1}]}
    if flaw.alias:
        said["aliases"] = [flaw.alias]
    fix = {"version": "1.99.0", "state": "fixed"}
    affected = {"ranges": [{"version": {"type": "semver", "constraint": "<1.99.0"}, "fix": fix}]}
    database.execute("INSERT INTO blobs VALUES (?, ?)", (2 * number - 1, json.dumps(said)))
    database.execute("INSERT INTO blobs VALUES (?, ?)", (2 * number, json.dumps(affected)))
    row = (number, name, "active", "github", 2 * number - 1)
    database.execute(
        "INSERT INTO vulnerability_handles (id, name, status, provider_id, blob_id) VALUES (?, ?, ?, ?, ?)", row
    )
    if flaw.alias:
        database.execute("INSERT INTO vulnerability_aliases VALUES (?, ?)", (name, flaw.alias))
    database.execute("INSERT OR IGNORE INTO packages VALUES (?, ?, ?)", (number, flaw.ecosystem, flaw.package))
    wanted = "SELECT id FROM packages WHERE ecosystem = ? AND name = ?"
    (package,) = database.execute(wanted, (flaw.ecosystem, flaw.package)).fetchone()
    database.execute(
        "INSERT INTO affected_package_handles VALUES (?, ?, NULL, ?, ?)", (number, number, package, 2 * number)
    )
