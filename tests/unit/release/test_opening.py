"""Who signs: a key in a file, or one that is kept elsewhere, as `signing.sign` takes it too."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from countersign.console.config import ROOT
from countersign.console.errors import UsageError
from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from release import opening
from release.signer import ByKey


def signer(project: Path, key: str) -> ByKey:
    found = opening.work(Context(Config(project_location=ROOT)), "", str(project), key=key).signer()
    assert isinstance(found, ByKey)
    return found


def test_a_key_may_be_kept_elsewhere_than_in_a_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys.generate()
    private, _ = keyfiles.write(project / "release", key, b"right")
    monkeypatch.setenv("COSIGN_PASSWORD", "right")
    monkeypatch.setenv("RELEASE_KEY", private.read_text())
    assert signer(project, "").key.public == key.public
    assert signer(project, "env:RELEASE_KEY").key.public == key.public
    with pytest.raises(UsageError, match="the variable 'NO_SUCH' is not set"):
        signer(project, "env:NO_SUCH")
    monkeypatch.setenv("COSIGN_PASSWORD", "wrong")
    for each in ("", "env:RELEASE_KEY"):
        with pytest.raises(UsageError, match="the password does not open the key"):
            signer(project, each)


def test_a_registry_that_is_given_is_checked_before_anything_is_built(project: Path) -> None:
    context = Context(Config(project_location=ROOT))
    with pytest.raises(UsageError, match=r"--registry: got '…@r\.example/x'; expected HOST/PATH"):
        opening.work(context, "", str(project), registry="me:secret@r.example/x")
    assert opening.work(context, "", str(project), registry="r.example/x/").base == "r.example/x"
