"""The demo's credentials come and go beside the machine's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.host import HOST
from crio.credentials import Credentials

MINE = {"registry.example": {"auth": "bWU6c2VjcmV0"}}


def test_they_come_beside_the_machines_own_and_go_again(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": MINE}))
    ours = Credentials(HOST, str(path), {"127.0.0.1:5000": "ZGVtbzp4"})
    assert ours.needed()
    ours.apply()
    assert json.loads(path.read_text())["auths"] == {**MINE, "127.0.0.1:5000": {"auth": "ZGVtbzp4"}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert not ours.needed()
    Credentials(HOST, str(path), {}).apply()
    assert json.loads(path.read_text()) == {"auths": MINE}


def test_a_port_that_changed_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "containers" / "auth.json"
    Credentials(HOST, str(path), {"127.0.0.1:5000": "ZGVtbzp4"}).apply()
    Credentials(HOST, str(path), {"127.0.0.1:6000": "ZGVtbzp4"}).apply()
    assert list(json.loads(path.read_text())["auths"]) == ["127.0.0.1:6000"]
    nothing = Credentials(HOST, str(path), {})
    assert nothing.needed()
    nothing.apply()
    assert not path.exists()
    assert not nothing.needed()


def test_a_file_of_another_form_is_one_clear_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text("no json")
    with pytest.raises(InfrastructureError, match="is not JSON with auths"):
        Credentials(HOST, str(path), {}).needed()
    assert path.read_text() == "no json"
