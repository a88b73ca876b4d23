"""grype's database by a mirror: its listing and its archive, and what is no result."""

from __future__ import annotations

import datetime as dt
import hashlib
import http.server
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from countersign.console.errors import InfrastructureError, UsageError
from release import findings, grype
from release.made import Folder
from tests.release import vulnerabilities
from tests.release.conftest import Lab
from tests.release.vulnerabilities import Flaw

ID = "GHSA-aaaa-bbbb-cccc"
PROGRAM = "app-1.2.3-linux-amd64"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Mirror:
    """A mirror on this machine.

    Attributes:
        root: what it serves; ``v6/latest.json`` is the listing.
        url: of that folder, as ``GRYPE_DB_UPDATE_URL`` has it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *given: Handler(*given, directory=str(root))
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fill(self, flaws: dict[str, Flaw], built: dt.datetime | None = None, ending: str = "tar.gz") -> Path:
        """Put a database there, as grype's own mirror has them; return its archive."""
        when = built or dt.datetime.now(dt.timezone.utc)
        folder = self.root / "v6"
        shutil.rmtree(folder, ignore_errors=True)
        vulnerabilities.write_grype(self.root / "db", flaws, when)
        folder.mkdir()
        archive = folder / f"vulnerability-db_v6.1.0.{ending}"
        if ending == "tar.gz":
            with tarfile.open(archive, "w:gz") as opened:
                opened.add(self.root / "db/vulnerability.db", "vulnerability.db")
        else:
            words = ["tar", "--zstd", "-cf", str(archive), "-C", str(self.root / "db"), "vulnerability.db"]
            subprocess.run(words, check=True)
        shutil.rmtree(self.root / "db")
        self.list(archive, when)
        return archive

    def list(self, archive: Path, when: dt.datetime, checksum: str = "") -> None:
        """Write the listing."""
        found = checksum or hashlib.sha256(archive.read_bytes()).hexdigest()
        listing = {
            "status": "active",
            "schemaVersion": "v6.1.0",
            "built": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "path": archive.name,
            "checksum": f"sha256:{found}",
        }
        (archive.parent / "latest.json").write_text(json.dumps(listing))


@pytest.fixture
def mirror(lab: Lab, tmp_path: Path) -> Iterator[Mirror]:
    root = tmp_path / "mirror"
    root.mkdir()
    made = Mirror(root)
    yield made
    made.stop()
    for url in (made.url, f"{made.url}/v6/latest.json"):
        own = hashlib.sha256(url.encode()).hexdigest()[:12]
        shutil.rmtree(lab.settings.cache / "grype-mirrored" / own, ignore_errors=True)


def found(lab: Lab, built: Folder, url: str) -> findings.Result:
    """What grype finds in the SBOM of one program, by a mirror."""
    target = grype.Target(PROGRAM, f"sbom:{built.file(PROGRAM + '.spdx.json')}")
    return grype.look(lab.settings, [target], grype.environment(lab.settings, url), [])


@pytest.mark.parametrize("ending", ["tar.gz", "tar.zst"])
def test_a_mirror_gives_the_database(lab: Lab, built: Folder, mirror: Mirror, ending: str) -> None:
    if ending == "tar.zst" and shutil.which("zstd") is None:
        pytest.skip("there is no zstd: apt-get install zstd")
    mirror.fill({ID: Flaw()}, ending=ending)
    result = found(lab, built, mirror.url)
    assert [each.id for each in result.findings] == [ID]
    assert result.scanners[0].database.startswith(f"{mirror.url}/v6/vulnerability-db_v6.1.0.{ending}")
    assert [each.id for each in found(lab, built, f"{mirror.url}/v6/latest.json").findings] == [ID]


def test_a_newer_database_is_taken_and_one_of_another_mirror_is_not(
    lab: Lab, built: Folder, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.fill({}, dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1))
    assert found(lab, built, mirror.url).findings == ()
    mirror.fill({ID: Flaw()})
    assert [each.id for each in found(lab, built, mirror.url).findings] == [ID]
    mirror.fill({}, dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1))
    assert found(lab, built, f"{mirror.url}/v6/latest.json").findings == ()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("checksum", "grype cannot read it: .*Checksums did not match"),
        ("cut off", "grype cannot read it: .*Checksums did not match"),
        ("no archive", "grype cannot read it: .*404"),
        ("no listing", "grype cannot read it: .*404"),
        ("no JSON", "grype cannot read it: .*unable to parse DB latest.json"),
        ("down", "grype cannot read it: .*connection refused"),
        ("stale", "grype .*the vulnerability database was built"),
    ],
)
def test_a_mirror_that_does_not_serve_a_good_database_gives_no_result(
    lab: Lab, built: Folder, mirror: Mirror, how: str, says: str
) -> None:
    now = dt.datetime.now(dt.timezone.utc)
    archive = mirror.fill({}, now - dt.timedelta(days=1))
    assert found(lab, built, mirror.url).findings == ()  # and what it left does not stand in below
    archive = mirror.fill({}, now)
    if how == "checksum":
        mirror.list(archive, now, "0" * 64)
    elif how == "cut off":
        archive.write_bytes(archive.read_bytes()[:-200])
    elif how == "no archive":
        archive.unlink()
    elif how == "no listing":
        (archive.parent / "latest.json").unlink()
    elif how == "no JSON":
        (archive.parent / "latest.json").write_text("<html>")
    elif how == "down":
        mirror.stop()
    else:
        shutil.rmtree(grype.environment(lab.settings, mirror.url)["GRYPE_DB_CACHE_DIR"])
        mirror.fill({}, now - dt.timedelta(days=30))
    with pytest.raises(InfrastructureError, match=says) as caught:
        found(lab, built, mirror.url)
    told = str(caught.value)
    assert "nothing was looked at" in told
    assert "\n" not in told


def test_a_password_in_a_mirrors_url_is_refused_and_not_shown(lab: Lab) -> None:
    with pytest.raises(UsageError, match="the URL has a user or a password; expected one without") as caught:
        grype.environment(lab.settings, "https://mirror:secret@mirror.example/databases")
    assert "secret" not in str(caught.value)
