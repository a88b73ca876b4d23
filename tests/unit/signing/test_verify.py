"""How the gate's program is called and understood; what it says of signatures is tried in tests/interop."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.oci.errors import BadConfig
from signing import verify
from signing.verify import Access

ALLOWED = '{"allow": true, "code": "OK"}'


class Program:
    """A program that notes how it was called, and answers what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.path, self.notes = folder / "countersign-gate", folder / "notes"

    def answers(self, stdout: str, status: int = 0, stderr: str = "") -> Path:
        self.path.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys\n"
            "config = sys.argv[sys.argv.index('--docker-config') + 1] if '--docker-config' in sys.argv else None\n"
            "logins = json.load(open(config)) if config else None\n"
            "mode = os.stat(config).st_mode & 0o777 if config else None\n"
            "notes = {'argv': sys.argv[1:], 'logins': logins, 'mode': mode, 'folder': os.environ['TMPDIR']}\n"
            f"json.dump(notes, open({str(self.notes)!r}, 'w'))\n"
            f"sys.stdout.write({stdout!r}); sys.stderr.write({stderr!r}); sys.exit({status})\n"
        )
        self.path.chmod(0o755)
        return self.path

    def noted(self) -> Any:
        return json.loads(self.notes.read_text())


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_name_is_no_option_and_the_verdict_is_the_programs(program: Program, tmp_path: Path) -> None:
    keys = verify.by_keys([tmp_path / "a.pub", tmp_path / "b.pub"])
    found = verify.verify(program.answers(ALLOWED), "--policy=x", keys, Access(certs_dir=tmp_path))
    assert found == json.loads(ALLOWED)
    noted = program.noted()
    wanted = ["--key", f"{tmp_path}/a.pub", "--key", f"{tmp_path}/b.pub", "--certs-dir", str(tmp_path)]
    assert noted["argv"] == ["verify", "--json", *wanted, "--", "--policy=x"]
    assert not Path(noted["folder"]).exists()


def test_a_layout_stands_for_registries(program: Program, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    access = Access(certs_dir=tmp_path, docker_configs=[config], layout=tmp_path / "saved")
    verify.verify(program.answers(ALLOWED), "x", [], access)
    assert program.noted()["argv"] == ["verify", "--json", "--layout", f"{tmp_path}/saved", "--", "x"]


def test_a_refusal_is_a_verdict(program: Program) -> None:
    refused = '{"allow": false, "code": "UNSIGNED"}'
    found = verify.verify(program.answers(refused, 1), "x", verify.by_policy(Path("p.json")), Access())
    assert found["code"] == "UNSIGNED"
    assert program.noted()["argv"] == ["verify", "--json", "--policy", "p.json", "--", "x"]


def test_logins_go_in_a_private_file_that_goes_away(program: Program, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text('{"auths": {"a": {"auth": "QTpzZWNyZXQ="}}, "credsStore": "x"}')
    second.write_text('{"auths": {"a": {"auth": "other"}, "b": {"auth": "Qg=="}}}')
    verify.verify(program.answers(ALLOWED), "x", [], Access(docker_configs=[first, second]))
    noted = program.noted()
    assert noted["logins"]["auths"] == {"a": {"auth": "QTpzZWNyZXQ="}, "b": {"auth": "Qg=="}}
    assert noted["logins"]["credsStore"] == "x"
    assert noted["mode"] == 0o600
    assert "QTpzZWNyZXQ=" not in " ".join(noted["argv"])
    assert not Path(noted["folder"]).exists()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"auths": 1}', "[" * 100_000, " " * (2 << 20)])
def test_a_docker_config_that_is_none(program: Program, tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "config.json"
    if content is not None:
        config.write_text(content)
    with pytest.raises(BadConfig, match=str(config)):
        verify.verify(program.answers(ALLOWED), "x", [], Access(docker_configs=[config]))
    for good in ("{}", "", "null"):
        config.write_text(good)
        assert verify.verify(program.path, "x", [], Access(docker_configs=[config]))["code"] == "OK"


def test_that_there_is_no_key_yet_is_said_before_anything_is_built(tmp_path: Path) -> None:
    settings = replace(Settings(), keys=tmp_path)
    with pytest.raises(UsageError, match=r"cosign\.pub: there is no such file; .*signing\.keys"):
        verify.usual_key(settings)
    (tmp_path / "cosign.pub").touch()
    assert verify.usual_key(settings) == tmp_path / "cosign.pub"


@pytest.mark.parametrize(
    ("stdout", "status", "stderr", "error", "says"),
    [
        ("", 2, "error: verify: k.pub: no key\n", UsageError, "k.pub: no key"),
        ("", 4, "error: verify: no room\n", InfrastructureError, "no room"),
        ("", 0, "", InfrastructureError, "no verdict"),
        ("{}", 0, "", InfrastructureError, "no verdict"),
        ('{"allow": false}', 0, "", InfrastructureError, "no verdict"),
        (ALLOWED, 1, "", InfrastructureError, "no verdict"),
        (ALLOWED, 4, "", InfrastructureError, "no verdict"),
        (ALLOWED, 137, "", InfrastructureError, "no verdict"),
    ],
)
def test_no_verdict_is_never_an_allowed_one(
    program: Program, stdout: str, status: int, stderr: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        verify.verify(program.answers(stdout, status, stderr), "x", [], Access())
    assert type(caught.value) is error
