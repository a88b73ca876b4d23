"""sigstore-conformance's bundles through ``countersign-gate verify-bundle``: all as the suite expects.

``SIGSTORE_CONFORMANCE=FOLDER .venv/bin/pytest tests/conformance`` runs it, where FOLDER is a checkout of the suite;
none of its files is kept here. What has no trusted root of its own is held against the public Sigstore's, which
sigstore-go brings with it.
"""

from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from countersign.console.config import ROOT, settings_from
from countersign.tools.resolver import tool
from countersign.tools.toolchain import go_environment
from signing.verify import program

SUITE = os.environ.get("SIGSTORE_CONFORMANCE", "")
BUNDLES = Path(SUITE, "test", "assets", "bundle-verify")
CASES = sorted(path for path in BUNDLES.iterdir() if path.is_dir()) if SUITE else []
ISSUER = "https://token.actions.githubusercontent.com"
BEACON = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon"
IDENTITY = f"{BEACON}/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"

pytestmark = pytest.mark.skipif(not SUITE, reason="SIGSTORE_CONFORMANCE names no checkout of the suite")


@pytest.fixture(scope="module")
def gate() -> Path:
    return program(settings_from(Context(Config(project_location=ROOT))))


@pytest.fixture(scope="module")
def public() -> Path:
    """Return the public Sigstore's trusted root as sigstore-go ships it."""
    settings = settings_from(Context(Config(project_location=ROOT)))
    listed = subprocess.run(
        [str(tool("go", settings)), "list", "-m", "-f", "{{.Dir}}", "github.com/sigstore/sigstore-go"],
        cwd=ROOT / "gate",
        env=go_environment(settings.cache, settings.offline),
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(listed.stdout.strip(), "examples", "trusted-root-public-good.json")


def test_the_suite_is_whole() -> None:
    failing = [path for path in CASES if path.name.endswith("_fail")]
    assert len(failing) >= 49
    assert len(CASES) - len(failing) >= 21


@pytest.mark.parametrize("by_digest", [False, True], ids=["file", "digest"])
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_bundle_is_judged_as_the_suite_expects(case: Path, by_digest: bool, gate: Path, public: Path) -> None:
    ended = subprocess.run(
        [
            gate,
            "verify-bundle",
            "--bundle",
            case / "bundle.sigstore.json",
            *signer(case, public),
            artifact(case, by_digest),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if case.name.endswith("_fail"):
        assert ended.returncode in {1, 2}, ended.stderr
        assert ended.stderr.startswith(("refused: ", "error: verify-bundle: "))
    else:
        assert ended.returncode == 0, ended.stderr


def signer(case: Path, public: Path) -> list[str | Path]:
    root = case / "trusted_root.json"
    trusted: list[str | Path] = ["--trusted-root", root if root.exists() else public]
    if (case / "key.pub").exists():
        return ["--key", case / "key.pub", *trusted]
    identity, issuer = text(case / "identity", IDENTITY), text(case / "issuer", ISSUER)
    return ["--certificate-identity", identity, "--certificate-oidc-issuer", issuer, *trusted]


def text(path: Path, default: str) -> str:
    return path.read_text().strip() if path.exists() else default


def artifact(case: Path, by_digest: bool) -> str:
    own = case / "artifact"
    path = own if own.exists() else BUNDLES / "a.txt"
    return f"sha256:{sha256(path.read_bytes()).hexdigest()}" if by_digest else str(path)
