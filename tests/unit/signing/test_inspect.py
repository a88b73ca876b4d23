"""What hangs on an image, as the gate's program says it: shown whole and cleaned, and never taken for more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.errors import CountersignError, InfrastructureError, UsageError
from countersign.keys import pair as keys
from countersign.policy import canary
from signing import inspect_tasks, inspection, verify
from signing.verify import Access

SIGNATURE: dict[str, Any] = {
    "id": "a" * 64,
    "format": "bundle",
    "predicateType": "https://sigstore.dev/cosign/sign/v1",
    "attestation": False,
    "subjects": ["sha256:" + "b" * 64],
    "signer": {"names": ["me@acme.example\x1b[2J"], "issuer": "https://issuer", "notAfter": "2026-11-29T08:00:00Z"},
    "times": [{"source": "log", "logIndex": 7, "at": "2026-11-29T07:00:00Z"}, {"source": "timestamp"}],
    "roots": [
        {"root": canary.ROOT, "ok": False, "code": "BAD_SIGNATURE"},
        {"root": "key", "ok": False, "code": "BAD_SIGNATURE", "found": "x" * 300},
        {"root": "release", "ok": True, "code": "OK", "expires": "2026-12-01T00:00:00Z"},
    ],
}
FOUND: dict[str, Any] = {
    "version": "countersign.inspected/v1",
    "image": "r.example/app:v1",
    "scope": "r.example",
    "rule": "anyOf(release)",
    "digests": [
        {"kind": "index", "digest": "sha256:" + "c" * 64, "signatures": [], "problems": []},
        {
            "kind": "manifest",
            "platform": "linux/arm64",
            "digest": "sha256:" + "b" * 64,
            "signatures": [SIGNATURE],
            "problems": ["MALFORMED: a bound was reached"],
        },
    ],
}


class Program:
    """Stands for the gate's program, which is tried in tests/interop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, out: object = FOUND, code: int = 0, err: str = "") -> None:
        self.words: Sequence[str] = ()
        self.policy: Any = None
        self.answer = (out if isinstance(out, str) else json.dumps(out), code, err)
        monkeypatch.setattr(verify, "program", lambda _: Path("/gate"))
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        self.words = argv[1:]
        if "--policy" in argv:
            self.policy = json.loads(Path(argv[argv.index("--policy") + 1]).read_bytes())
        out, code, err = self.answer
        return subprocess.CompletedProcess(argv, code, out.encode(), err.encode())


@pytest.fixture
def context(tmp_path: Path) -> MockContext:
    """A configuration with a policy of its own."""
    (tmp_path / "key.pub").write_text(keys.generate().public.pem)
    policy = tmp_path / "policy.yaml"
    root = "{publicKey: {files: [key.pub]}}"
    policy.write_text(f"apiVersion: countersign/v1\nroots: {{key: {root}}}\nscopes: {{r.example: {{anyOf: [key]}}}}\n")
    return MockContext(config=Config(overrides={"policy": str(policy), "state": str(tmp_path / "state")}))


def test_everything_is_shown_whole_and_cleaned(
    context: MockContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Program(monkeypatch)
    inspect_tasks.inspect(context, image=["r.example/app:v1"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "r.example/app:v1 (r.example: anyOf(release))"
    shown = "\n".join(lines)
    for part in (
        "nothing hangs on it",
        "manifest linux/arm64 sha256:bbb",
        "bundle aaaaaaaaaaaa: signature",
        "(https://issuer)",
        "log entry 7 of 2026-11-29T07:00:00Z",
        "certificate until 2026-11-29T08:00:00Z",
        "✗ key: BAD_SIGNATURE: " + "x" * 300,
        "✓ release, until 2026-12-01T00:00:00Z",
        "! MALFORMED: a bound was reached",
    ):
        assert part in shown
    assert "\x1b" not in shown
    assert canary.ROOT not in shown
    assert program.policy["roots"].keys() == {"key", canary.ROOT}


def test_one_document_has_them_all(
    context: MockContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Program(monkeypatch)
    inspect_tasks.inspect(context, image=["r.example/app:v1", "r.example/db:v1"], json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == "countersign.inspections/v1"
    (roots,) = [one["roots"] for one in document["images"][1]["digests"][1]["signatures"]]
    assert [root["root"] for root in roots] == ["key", "release"]


def test_only_a_named_policy_has_to_be_there(
    context: MockContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Program(monkeypatch)
    (tmp_path / "key.pub").unlink()
    inspect_tasks.inspect(context, image=["r.example/app:v1"])
    assert "no policy is asked: " in capsys.readouterr().err
    (tmp_path / "policy.yaml").unlink()
    inspect_tasks.inspect(context, image=["r.example/app:v1"])
    assert "--policy" not in program.words
    with pytest.raises(Exit) as caught:
        inspect_tasks.inspect(context, image=["r.example/app:v1"], policy=str(tmp_path / "policy.yaml"))
    assert caught.value.code == UsageError.exit_code


def test_a_rendered_policy_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"version": "countersign.policy/v1"}')
    assert inspection.rendered(file) == file.read_bytes()


@pytest.mark.parametrize(
    ("out", "code", "error"),
    [
        (FOUND, 2, UsageError),
        (FOUND, 4, InfrastructureError),
        (FOUND, 1, InfrastructureError),
        ("", 0, InfrastructureError),
        ({**FOUND, "version": "countersign.inspected/v9"}, 0, InfrastructureError),
        ("[]", 0, InfrastructureError),
    ],
)
def test_what_is_no_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch, out: object, code: int, error: type[CountersignError]
) -> None:
    Program(monkeypatch, out, code, "error: inspect: why")
    with pytest.raises(error) as caught:
        inspection.inspect(Path("/gate"), "r.example/app:v1", None, Access())
    if code:
        assert str(caught.value).endswith("why")
