"""What the real cosign saves in a folder has the verdict that it has in its registry, without the registry."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from countersign.console.config import Settings
from signing.verify import Access, by_keys, program, verify
from tests.images import push_image
from tests.interop.conftest import ATTACHMENT, OFFLINE, Cosign, Lab

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("how", "code"), [(ATTACHMENT, "OK"), (OFFLINE, "OK"), (None, "UNSIGNED")], ids=["attachment", "bundle", "unsigned"]
)
def test_what_cosign_saves(
    lab: Lab,
    settings: Settings,
    cosign: Cosign,
    cosigns_key: tuple[Path, Path],
    our_key: tuple[Path, Path],
    tmp_path: Path,
    how: Sequence[str] | None,
    code: str,
) -> None:
    name = f"{lab.netloc}/saved/{uuid.uuid4().hex}"
    target = push_image(lab.client, name, "v1", name)
    if how is not None:
        cosign.sign(lab, f"{name}@{target.digest}", cosigns_key[0], how)
    saved = cosign.run("save", "--dir", str(tmp_path / "saved"), *lab.flags, f"{name}:v1")
    assert saved.returncode == 0, saved.stderr

    def says(key: Path) -> str:
        access = Access(layout=tmp_path / "saved")
        return str(verify(program(settings), f"{name}:v1", by_keys([key]), access)["code"])

    assert says(cosigns_key[1]) == code
    assert says(our_key[1]) == ("BAD_SIGNATURE" if how is not None else code)
