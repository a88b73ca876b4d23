"""Known vulnerabilities stop a release, unless they are excepted, with a reason, until a day that has not passed."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from release import exceptions, findings, flow, govulncheck, grype, scan, statement
from release.exceptions import Excepted
from release.load import ReleaseInvalid
from release.made import Folder
from release.signer import ByKey
from tests.release import vulnerabilities
from tests.release.conftest import Lab, Made, Make, resign
from tests.release.vulnerabilities import Flaw

ID = "GO-2026-9999"
TODAY = dt.date(2026, 11, 29)
PROGRAM = "app-1.2.3-linux-amd64"


def excepted(until: dt.date) -> dict[str, Excepted]:
    return {ID: Excepted(ID, "not reached from here", until)}


@pytest.fixture(scope="module")
def found(lab: Lab, built: Folder, tmp_path_factory: pytest.TempPathFactory) -> findings.Result:
    """What is found with a database that knows of something."""
    folder = tmp_path_factory.mktemp("vulndb")
    vulnerabilities.write_go(folder / "go", [ID], ["CVE-2026-99999"])
    return govulncheck.look(lab.settings, [built.file(PROGRAM)], str(folder / "go"))


def test_a_vulnerability_stops_a_release_and_an_exception_lets_it_go_on_until_its_day(found: findings.Result) -> None:
    (finding,) = found.findings
    assert (finding.id, finding.module, finding.fixed, finding.reached) == (ID, "stdlib", "v1.99.0", True)
    with pytest.raises(VerdictError, match=f"{PROGRAM}: {ID} in stdlib v.*, fixed in v1.99.0"):
        findings.check(found, {}, "critical", TODAY)
    findings.check(found, excepted(TODAY), "critical", TODAY)
    with pytest.raises(VerdictError, match=f"the exception of {ID} ended on 2026-11-28"):
        findings.check(found, excepted(TODAY - dt.timedelta(days=1)), "critical", TODAY)


def test_without_a_database_there_is_no_result(lab: Lab, built: Folder, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="nothing was looked at"):
        govulncheck.look(lab.settings, [built.file(PROGRAM)], str(tmp_path / "nowhere"))


def test_what_is_no_program_gives_no_result(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(InfrastructureError, match="came to no result"):
        govulncheck.look(lab.settings, [tmp_path / "text"], lab.databases.go)


def test_sarif_has_each_finding_and_why_it_is_excepted(found: findings.Result) -> None:
    (run,) = json.loads(findings.sarif(found, excepted(TODAY), "critical"))["runs"]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == (ID, "error")
    assert result["suppressions"][0]["justification"] == "not reached from here (until 2026-11-29)"
    (bare,) = json.loads(findings.sarif(found, {}, "critical"))["runs"][0]["results"]
    assert "suppressions" not in bare


CRITICAL = "GHSA-aaaa-bbbb-cccc"


def by_grype(lab: Lab, built: Folder, folder: Path, flaws: dict[str, Flaw], *vex: Path) -> findings.Result:
    """What grype finds in the SBOM of one program."""
    vulnerabilities.write_grype(folder, flaws)
    target = grype.Target(PROGRAM, f"sbom:{built.file(PROGRAM + '.spdx.json')}")
    return grype.look(lab.settings, [target], grype.environment(lab.settings, str(folder)), vex)


def test_what_is_rated_critical_stops_a_release_and_what_is_high_is_only_reported(
    lab: Lab, built: Folder, tmp_path: Path
) -> None:
    flaws = {CRITICAL: Flaw("critical", alias="CVE-2026-99999"), "GHSA-dddd-eeee-ffff": Flaw("high")}
    both = by_grype(lab, built, tmp_path / "both", flaws)
    rated = {each.id: each.severity for each in both.findings}
    assert rated == {CRITICAL: "critical", "GHSA-dddd-eeee-ffff": "high"}
    with pytest.raises(VerdictError, match=f"{PROGRAM}: {CRITICAL} in stdlib .*, critical, fixed in 1.99.0;"):
        findings.check(both, {}, "critical", TODAY)
    high = by_grype(lab, built, tmp_path / "high", {"GHSA-dddd-eeee-ffff": Flaw("high")})
    findings.check(high, {}, "critical", TODAY)
    assert [each.told() for each in high.findings] == [True]
    with pytest.raises(VerdictError, match="GHSA-dddd-eeee-ffff"):
        findings.check(high, {}, "high", TODAY)


@pytest.mark.parametrize("name", [CRITICAL, "CVE-2026-99999"])
def test_an_exception_by_any_name_holds_for_both_scanners(
    lab: Lab, built: Folder, found: findings.Result, tmp_path: Path, name: str
) -> None:
    rated = by_grype(lab, built, tmp_path / "grype", {CRITICAL: Flaw(alias="CVE-2026-99999")})
    known = {name: Excepted(name, "not reached from here", TODAY)}
    findings.check(rated, known, "critical", TODAY)
    both = scan.merged([found, rated])
    if name.startswith("CVE"):
        findings.check(both, known, "critical", TODAY)
    else:
        with pytest.raises(VerdictError, match=ID):
            findings.check(both, known, "critical", TODAY)


@pytest.mark.parametrize(("status", "stops"), [("not_affected", False), ("affected", True)])
def test_what_vex_says_does_no_harm_stops_nothing(
    lab: Lab, built: Folder, found: findings.Result, tmp_path: Path, status: str, stops: bool
) -> None:
    vex = tmp_path / "vex.json"
    vex.write_text(json.dumps(_vex(CRITICAL, status)))
    rated = by_grype(lab, built, tmp_path / "grype", {CRITICAL: Flaw(alias="CVE-2026-99999")}, vex)
    both = scan.merged([found, rated])
    assert len(both.findings) == 2
    if stops:
        with pytest.raises(VerdictError, match="and 1 more"):
            findings.check(both, {}, "critical", TODAY)
        return
    findings.check(both, {}, "critical", TODAY)
    assert {each.excused for each in both.findings} == {"not_affected"}
    runs = json.loads(findings.sarif(both, {}, "critical"))["runs"]
    assert [run["results"][0]["suppressions"][0]["justification"] for run in runs] == [both.findings[0].excused] * 2


def _vex(name: str, status: str) -> dict[str, object]:
    harmless = {"justification": "vulnerable_code_not_in_execute_path"}
    why = harmless if status == "not_affected" else {"action_statement": "update"}
    product = {"@id": "pkg:golang/stdlib@1.27.3"}
    stated = {"vulnerability": {"name": name}, "products": [product], "status": status, **why}
    about = {"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://acme.example/vex/1", "author": "acme"}
    return {**about, "timestamp": "2026-11-01T00:00:00Z", "version": 1, "statements": [stated]}


def test_without_a_database_of_grypes_there_is_no_result(lab: Lab, built: Folder, tmp_path: Path) -> None:
    target = grype.Target(PROGRAM, f"sbom:{built.file(PROGRAM + '.spdx.json')}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InfrastructureError, match=r"grype came to no result: .*nothing was looked at"):
        grype.look(lab.settings, [target], grype.environment(lab.settings, str(tmp_path / "empty")), [])
    old = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=30)
    vulnerabilities.write_grype(tmp_path / "old", {}, old)
    with pytest.raises(InfrastructureError, match=r"grype came to no result: .*was built"):
        grype.look(lab.settings, [target], grype.environment(lab.settings, str(tmp_path / "old")), [])
    assert by_grype(lab, built, tmp_path / "good", {}).findings == ()
    with pytest.raises(UsageError, match="there is no such database"):
        grype.environment(lab.settings, str(tmp_path / "nowhere"))


def test_a_database_may_come_as_an_archive(lab: Lab, built: Folder, tmp_path: Path) -> None:
    vulnerabilities.write_grype(tmp_path / "db", {CRITICAL: Flaw()})
    archive = tmp_path / "vulnerability-db.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tmp_path / "db/vulnerability.db", "vulnerability.db")
    target = grype.Target(PROGRAM, f"sbom:{built.file(PROGRAM + '.spdx.json')}")
    variables = grype.environment(lab.settings, str(archive))
    assert [each.id for each in grype.look(lab.settings, [target], variables, []).findings] == [CRITICAL]
    (tmp_path / "text").write_text("text")
    with pytest.raises(InfrastructureError, match="grype cannot read it"):
        grype.environment(lab.settings, str(tmp_path / "text"))


def test_an_artefact_that_cannot_be_read_gives_no_result(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    target = grype.Target("text", f"sbom:{tmp_path / 'text'}")
    with pytest.raises(InfrastructureError, match="text: grype came to no result"):
        grype.look(lab.settings, [target], grype.environment(lab.settings, lab.databases.grype), [])


def test_the_stage_stops_at_a_critical_finding_and_goes_on_without_it(lab: Lab, built: Folder, tmp_path: Path) -> None:
    known = vulnerabilities.write(tmp_path, flaws={CRITICAL: Flaw()})
    work = replace(lab.work("scanned"), databases=known)
    shutil.copytree(built.path, work.folder.path)
    with pytest.raises(VerdictError, match=f"{CRITICAL} in stdlib .*, critical, .*and 3 more"):
        flow.run(work, "scan", flow.start(work))
    state = flow.run(replace(work, databases=lab.databases), "scan", flow.start(work))
    assert state.release.scanned
    document = json.loads((work.folder.path / "scan.json").read_bytes())
    assert [each["name"] for each in document["scanner"]["result"]["scanners"]] == ["govulncheck", "grype"]
    assert findings.wrong(document, TODAY) == ("", "")


@pytest.mark.parametrize("what", ["scanners", "failOn", "findings", "exceptions"])
def test_a_result_that_lacks_something_is_none(found: findings.Result, what: str) -> None:
    document = findings.predicate(found, excepted(TODAY), "critical", "2026-11-29T00:00:00Z")
    assert findings.wrong(document, TODAY) == ("", "")
    document["scanner"]["result"].pop(what)
    assert findings.wrong(document, TODAY)[0] == "wrong-content"


def _attested(made: Made, found: findings.Result, allowed: dict[str, Excepted]) -> None:
    """Attest another result of the scan, as who holds the key can."""
    path = made.folder / "app-1.2.3.scan.sigstore.json"
    _, subjects, _ = statement.read(path.read_bytes(), "")
    about = {name: value for value, name in subjects.items()}
    document = findings.predicate(found, allowed, "critical", "2026-11-29T00:00:00Z")
    path.write_bytes(ByKey(made.lab.key).statement(statement.make(about, findings.PREDICATE, document)))
    resign(made)


@pytest.mark.parametrize(
    ("days", "reason"), [(None, "vulnerable"), (-1, "expired-exception"), (0, ""), (30, "")], ids=str
)
def test_a_release_is_refused_once_its_exceptions_have_ended(
    make: Make, found: findings.Result, days: int | None, reason: str
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
        ("GO-2026-9999", "all", "expected an ID such as GO-2026-1234"),
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
