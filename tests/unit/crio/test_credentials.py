"""The demo's credentials come and go beside the machine's own."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError
from countersign.enforcement.layout import SYSTEM, Layout
from countersign.nodes.host import HOST
from crio.credentials import Credentials

OURS = {"127.0.0.1:5000": "ZGVtbzp4"}
MINE = {"registry.example": {"auth": "bWU6c2VjcmV0"}}


def layout_of(path: Path) -> Layout:
    """Return a layout below the folder of a test, with a folder of ours in it."""
    etc = path.parent / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    return replace(SYSTEM, etc=str(etc))


def test_they_come_beside_the_machines_own_and_go_again(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": MINE}))
    ours = Credentials(HOST, layout_of(path), str(path), OURS)
    assert ours.needed()
    ours.apply()
    assert json.loads(path.read_text())["auths"] == {**MINE, "127.0.0.1:5000": {"auth": "ZGVtbzp4"}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert not ours.needed()
    Credentials(HOST, layout_of(path), str(path), {}).apply()
    assert json.loads(path.read_text()) == {"auths": MINE}


def test_a_file_that_nobody_changed_meanwhile_is_put_back_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text('{"auths":{"registry.example":{"auth":"bWU6c2VjcmV0"}}}')
    path.chmod(0o640)
    os.utime(path, (1_000_000, 1_000_000))
    before = (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime)
    for wanted in (OURS, OURS, {}):
        Credentials(HOST, layout_of(path), str(path), wanted).apply()
    assert (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime) == before


@pytest.mark.parametrize("content", ["", "null", "{}", '{"auths": null}', '{"auths": {}}'])
def test_a_file_that_says_nothing_has_no_logins_and_comes_back_as_it_was(tmp_path: Path, content: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(content)
    nothing, ours = (Credentials(HOST, layout_of(path), str(path), wanted) for wanted in ({}, OURS))
    assert not nothing.needed()
    ours.apply()
    assert set(json.loads(path.read_text())["auths"]) == set(OURS)
    nothing.apply()
    assert path.read_text() == content


def test_what_its_user_adds_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text('{"auths":{}}')
    Credentials(HOST, layout_of(path), str(path), OURS).apply()
    document = json.loads(path.read_text())
    path.write_text(json.dumps({"auths": {**document["auths"], **MINE}}))
    Credentials(HOST, layout_of(path), str(path), {}).apply()
    assert json.loads(path.read_text()) == {"auths": MINE}


def test_a_port_that_changed_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "containers" / "auth.json"
    Credentials(HOST, layout_of(path), str(path), OURS).apply()
    Credentials(HOST, layout_of(path), str(path), {"127.0.0.1:6000": "ZGVtbzp4"}).apply()
    assert list(json.loads(path.read_text())["auths"]) == ["127.0.0.1:6000"]
    nothing = Credentials(HOST, layout_of(path), str(path), {})
    assert nothing.needed()
    nothing.apply()
    assert not path.exists()
    assert not nothing.needed()


def test_a_file_of_another_form_is_one_clear_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text("no json")
    with pytest.raises(InfrastructureError, match="is not JSON with auths"):
        Credentials(HOST, layout_of(path), str(path), {}).needed()
    assert path.read_text() == "no json"
