"""Known vulnerabilities stop a release, unless they are excepted, with a reason, until a day that has not passed."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError, VerdictError
from release import exceptions, scan, statement
from release.exceptions import Excepted
from release.load import ReleaseInvalid
from release.made import Folder
from release.signer import ByKey
from tests.release.conftest import Lab, Made, Make, resign, write_database

ID = "GO-2026-9999"
TODAY = dt.date(2026, 11, 29)
PROGRAM = "app-1.2.3-linux-amd64"


def excepted(until: dt.date) -> dict[str, Excepted]:
    return {ID: Excepted(ID, "not reached from here", until)}


@pytest.fixture(scope="module")
def found(lab: Lab, built: Folder, tmp_path_factory: pytest.TempPathFactory) -> scan.Result:
    """What is found with a database that knows of something."""
    folder = tmp_path_factory.mktemp("vulndb")
    write_database(folder, [ID])
    return scan.scan(lab.settings, [built.file(PROGRAM)], str(folder))


def test_a_vulnerability_stops_a_release_and_an_exception_lets_it_go_on_until_its_day(found: scan.Result) -> None:
    (finding,) = found.findings
    assert (finding.id, finding.module, finding.fixed, finding.reached) == (ID, "stdlib", "v1.99.0", True)
    with pytest.raises(VerdictError, match=f"{PROGRAM}: {ID} in stdlib v.*, fixed in v1.99.0"):
        scan.check(found.findings, {}, TODAY)
    scan.check(found.findings, excepted(TODAY), TODAY)
    with pytest.raises(VerdictError, match=f"the exception of {ID} ended on 2026-11-28"):
        scan.check(found.findings, excepted(TODAY - dt.timedelta(days=1)), TODAY)


def test_without_a_database_there_is_no_result(lab: Lab, built: Folder, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="nothing was looked at"):
        scan.scan(lab.settings, [built.file(PROGRAM)], str(tmp_path / "nowhere"))


def test_what_is_no_program_gives_no_result(lab: Lab, tmp_path: Path) -> None:
    write_database(tmp_path / "vulndb", [])
    (tmp_path / "text").write_text("text")
    with pytest.raises(InfrastructureError, match="came to no result"):
        scan.scan(lab.settings, [tmp_path / "text"], str(tmp_path / "vulndb"))


def test_sarif_has_each_finding_and_why_it_is_excepted(found: scan.Result) -> None:
    (run,) = json.loads(scan.sarif(found, excepted(TODAY)))["runs"]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == (ID, "error")
    assert result["suppressions"][0]["justification"] == "not reached from here (until 2026-11-29)"
    (bare,) = json.loads(scan.sarif(found, {}))["runs"][0]["results"]
    assert "suppressions" not in bare


def _attested(made: Made, found: scan.Result, allowed: dict[str, Excepted]) -> None:
    """Attest another result of the scan, as who holds the key can."""
    path = made.folder / "app-1.2.3.scan.sigstore.json"
    _, subjects, _ = statement.read(path.read_bytes(), "")
    about = {name: value for value, name in subjects.items()}
    document = scan.predicate(found, allowed, "2026-11-29T00:00:00Z")
    path.write_bytes(ByKey(made.lab.key).statement(statement.make(about, scan.PREDICATE, document)))
    resign(made)


@pytest.mark.parametrize(
    ("days", "reason"), [(None, "vulnerable"), (-1, "expired-exception"), (0, ""), (30, "")], ids=str
)
def test_a_release_is_refused_once_its_exceptions_have_ended(
    make: Make, found: scan.Result, days: int | None, reason: str
) -> None:
    made = make()
    today = dt.datetime.now(dt.timezone.utc).date()
    _attested(made, found, {} if days is None else excepted(today + dt.timedelta(days=days)))
    scans = [f"{each.name}: scan" for each in made.release.files if each.kind == "program"]
    assert made.verify() == (dict.fromkeys(scans, reason) if reason else {})


def test_a_result_that_is_missing_is_refused(make: Make) -> None:
    made = make()
    (made.folder / "app-1.2.3.scan.sigstore.json").unlink()
    resign(made)
    assert made.verify()[f"{PROGRAM}: scan"] == "unattested"


def write(path: Path, entry: str) -> Path:
    path.write_text(f"apiVersion: countersign.exceptions/v1\nexceptions:\n  - {entry}\n")
    return path


GOOD = '{id: GO-2026-9999, reason: "not reached from here", until: 2026-12-31}'


def test_exceptions_are_read(tmp_path: Path) -> None:
    found = exceptions.load(write(tmp_path / "x.yaml", GOOD), TODAY)
    assert found == excepted(dt.date(2026, 12, 31))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("GO-2026-9999", "CVE-2026-1", "expected an ID such as GO-2026-1234"),
        ("not reached from here", "no", "expected why it does no harm here"),
        ("2026-12-31", "2030-12-31", "expected a day within a year"),
        ("2026-12-31", "soon", "until"),
        (", until: 2026-12-31", "", "until"),
        ("until", "til", "til"),
    ],
)
def test_an_exception_that_is_not_whole_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ReleaseInvalid, match=says):
        exceptions.load(write(tmp_path / "x.yaml", GOOD.replace(old, new)), TODAY)
