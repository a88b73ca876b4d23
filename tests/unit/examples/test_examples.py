"""Every policy in examples/ loads, renders, and says of the images in its head what its head says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import sigstore

from countersign.console.config import ROOT
from countersign.keys.pair import generate
from countersign.oci.reference import parse
from countersign.policy import gate
from countersign.policy.load import load
from countersign.policy.match import match
from countersign.policy.model import Policy
from lab.trials import notaries

FOLDER = ROOT / "examples"
TRUSTED_ROOT = next(Path(sigstore.__file__).parent.glob("_store/*sigstore.dev/trusted_root.json"))
"""The public Sigstore's, as its Python package brings it."""
POLICIES = sorted(path.name for path in FOLDER.glob("*.yaml") if "apiVersion: countersign/v1" in path.read_text())
SAID = re.compile(r"^#   (?P<image>\S+) +(?P<what>(?:is|needs) .+)$", re.MULTILINE)


def loaded(name: str, folder: Path) -> Policy:
    """Load an example with a new key pair for every key file, and what certificates ask for, that it names."""
    path = Path(shutil.copy(FOLDER / name, folder))
    (folder / "keys").mkdir()
    (folder / "keys" / "trusted_root.json").write_bytes(TRUSTED_ROOT.read_bytes())
    (folder / "keys" / "ca.pem").write_text(notaries.make().pem)
    for file in re.findall(r"keys/[a-z0-9]+\.pub", path.read_text()):
        (folder / file).write_text(generate().public.pem)
    return load(path)


def said_of(policy: Policy, image: str) -> str:
    reference = parse(image)
    if str(reference) in policy.pinned:
        return "is pinned"
    rule = match(policy, reference.name)[1]
    words = {"accept": "is accepted", "reject": "is rejected", "anyOf": "needs any of", "allOf": "needs all of"}
    return " ".join([words[rule.kind], *filter(None, [", ".join(rule.roots)])])


@pytest.mark.parametrize("name", POLICIES)
def test_an_example_says_of_images_what_its_head_says(name: str, tmp_path: Path) -> None:
    policy = loaded(name, tmp_path)
    lines = SAID.findall((FOLDER / name).read_text())
    assert len(lines) >= 2
    assert [(image, said_of(policy, image)) for image, _ in lines] == lines


@pytest.mark.parametrize("name", POLICIES)
def test_an_example_renders(name: str, tmp_path: Path) -> None:
    policy = loaded(name, tmp_path)
    assert gate.render(policy)


def test_every_example_is_listed() -> None:
    listed = re.findall(r"\]\(([a-z-]+\.yaml)\)", (FOLDER / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.yaml"))
    assert len(POLICIES) >= 5
