"""Who reads whose signatures with lasting keys: the table in docs/signing.md, cell by cell, from runs.

``READERS_TABLE=write .venv/bin/pytest tests/interop/test_readers.py`` writes the table as it comes out.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import ROOT, Settings
from countersign.keys import pair as keys
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import Reference, parse
from countersign.oci.registry import Registry
from countersign.policy import crio, gate, load
from countersign.policy import notation as renderer
from countersign.policy.part import part
from countersign.tools.resolver import tool
from lab.trials import notaries
from lab.trials.library import files, judged_by
from signing import sign
from signing.verify import Access, by_policy, program, verify
from tests.images import push_image
from tests.interop import test_certified as certified
from tests.interop import test_notation_cli as cli
from tests.interop.conftest import ATTACHMENT, OFFLINE, PASSWORD, Cosign, Lab, free_netloc, running
from tests.interop.test_notation_cli import notation

__all__ = ["notation"]
pytestmark = pytest.mark.interop
PAGE = ROOT / "docs" / "signing.md"
BETWEEN = re.compile(r"(?<=<!-- who reads whose signatures -->\n).*?(?=<!-- end -->)", re.DOTALL)
NOTARY = notaries.make()
ROOTS: Mapping[str, dict[str, Any]] = {
    "key": {"publicKey": {"files": ["key.pub"]}},
    "pki": {"pki": {"roots": ["ca.pem"], "email": "release@acme.example"}},
    "notary": {"notation": {"roots": ["notary.pem"], "identities": [notaries.identity("release")]}},
}


@dataclass(frozen=True)
class Scene:
    """A registry, the programs, and a folder with what each needs."""

    settings: Settings
    cosign: Cosign
    notation: Path
    lab: Lab
    key: Path
    folder: Path

    def policy(self, ref: Reference, root: str) -> Path:
        path = self.folder / "policy.yaml"
        scopes = {ref.name: {"anyOf": ["r"]}}
        path.write_text(json.dumps({"apiVersion": "countersign/v1", "roots": {"r": ROOTS[root]}, "scopes": scopes}))
        return path

    def by_cosign(self, ref: Reference, target: Descriptor, *how: str) -> None:
        self.cosign.sign(self.lab, str(ref.at(target.digest)), self.key, how)


@pytest.fixture(scope="module")
def scene(
    settings: Settings,
    cosign: Cosign,
    notation: Path,
    our_key: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    folder, netloc = tmp_path_factory.mktemp("readers"), free_netloc()
    (folder / "key.pub").write_bytes(our_key[1].read_bytes())
    (folder / "ca.pem").write_text(certified.CA.pem)
    (folder / "leaf.pem").write_text(certified.SIGNER.pem)
    (folder / "certified.key").write_text(certified.SIGNER.key.sealed(PASSWORD.encode()))
    (folder / "notary.pem").write_text(NOTARY.pem)
    cli._install(folder, NOTARY.issue())
    (folder / "data").mkdir()
    (folder / "reader").mkdir()
    with running([str(tool("registry", settings)), "--address", netloc, "--dir", str(folder / "data")], netloc):
        lab = Lab(netloc, Registry(), Access(), ("--allow-http-registry",))
        yield Scene(settings, cosign, notation, lab, our_key[0], folder)


def _ours(formats: list[Any]) -> Callable[[Scene, Reference, Descriptor], None]:
    def signed(scene: Scene, ref: Reference, target: Descriptor) -> None:
        key = keys.load_private(scene.key, PASSWORD.encode())
        sign.sign(scene.lab.client, ref.name, target, key, formats)

    return signed


def _ours_certified(formats: list[Any]) -> Callable[[Scene, Reference, Descriptor], None]:
    def signed(scene: Scene, ref: Reference, target: Descriptor) -> None:
        sign.sign(scene.lab.client, ref.name, target, certified.by_certificate(scene.folder), formats)

    return signed


def _cosign_certified(*how: str, chained: bool = True) -> Callable[[Scene, Reference, Descriptor], None]:
    def signed(scene: Scene, ref: Reference, target: Descriptor) -> None:
        (scene.folder / "leaf.pem").write_text(certified.SIGNER.pem)
        chain = ("--certificate-chain", f"{scene.folder}/ca.pem") if chained else ()
        by = ("--key", f"{scene.folder}/certified.key", "--certificate", f"{scene.folder}/leaf.pem", *chain)
        words = (*by, *how, *scene.lab.flags)
        done = scene.cosign.run("sign", "--yes", *words, str(ref.at(target.digest)))
        assert done.returncode == 0, done.stderr

    return signed


def _ours_notary(scene: Scene, ref: Reference, target: Descriptor) -> None:
    cli._sign(scene.lab, ref, target, NOTARY.issue(), scene.folder)


def _notations(scene: Scene, ref: Reference, target: Descriptor) -> None:
    words = ("sign", "--plugin", "countersign", "--id", "key-1", str(ref.at(target.digest)))
    done = cli.run(scene.notation, scene.lab, scene.folder, *words, more={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


CHAINED = "cosign 3, bundle, pki, given --certificate-chain"
"""It puts the chain into a bundle of v0.3, which that version does not allow: nobody reads it, cosign included."""
SIGNERS: Mapping[str, tuple[str, Callable[[Scene, Reference, Descriptor], None]]] = {
    "countersign, attachment, key": ("key", _ours(["attachment"])),
    "countersign, bundle, key": ("key", _ours(["bundle"])),
    "cosign 3, attachment as of cosign 1 and 2, key": ("key", lambda s, r, t: s.by_cosign(r, t, *ATTACHMENT)),
    "cosign 3, bundle, key": ("key", lambda s, r, t: s.by_cosign(r, t, *OFFLINE)),
    "countersign, attachment, pki": ("pki", _ours_certified(["attachment"])),
    "countersign, bundle, pki": ("pki", _ours_certified(["bundle"])),
    "cosign 3, attachment as of cosign 1 and 2, pki": ("pki", _cosign_certified(*ATTACHMENT)),
    "cosign 3, bundle, pki": ("pki", _cosign_certified(*OFFLINE, chained=False)),
    CHAINED: ("pki", _cosign_certified(*OFFLINE)),
    "countersign, notation, pki": ("notary", _ours_notary),
    "notation CLI with our plugin, notation, pki": ("notary", _notations),
}


def by_gate(scene: Scene, ref: Reference, _target: Descriptor, root: str) -> bool:
    rendered = scene.folder / "policy.json"
    rendered.write_bytes(gate.render(load.load(scene.policy(ref, root))))
    return bool(verify(program(scene.settings), str(ref), by_policy(rendered), Access())["allow"])


def by_cosign(scene: Scene, ref: Reference, target: Descriptor, root: str) -> bool:
    attached: Sequence[str] = ("--key", f"{scene.folder}/key.pub")
    bundled = attached
    if root == "pki":
        who = ("--certificate-identity", "release@acme.example", *certified.ISSUER, "--insecure-ignore-sct")
        attached = (*who, "--ca-roots", f"{scene.folder}/ca.pem")
        bundled = (*who, "--trusted-root", str(certified.trusted_root(scene.folder)))

    def verified(*words: str) -> bool:
        image = str(ref.at(target.digest))
        done = scene.cosign.run("verify", "--insecure-ignore-tlog", *words, *scene.lab.flags, image)
        return done.returncode == 0

    return verified(*attached, "--new-bundle-format=false") or verified(*bundled, "--new-bundle-format=true")


def by_notation(scene: Scene, ref: Reference, target: Descriptor, _root: str) -> bool:
    home = scene.folder / "reader"
    renderer.write(home / "notation", load.load(scene.policy(ref, "notary")))
    done = cli.run(scene.notation, scene.lab, home, "verify", str(ref.at(target.digest)))
    return done.returncode == 0


def by_library(scene: Scene, ref: Reference, _target: Descriptor, root: str) -> bool:
    policy, folder, image = load.load(scene.policy(ref, root)), scene.folder / "library", f"{ref.name}:v1"
    if part(policy, crio.ENGINE)[0].scopes[ref.name].rule.kind == "accept":
        return False  # such a root is left to the gate: the engine has no words for it
    folder.mkdir(exist_ok=True)
    options = files(folder, scene.settings, policy.path, {scene.lab.netloc: f"http://{scene.lab.netloc}"})
    return bool(judged_by([str(tool("countersign-library", scene.settings)), *options, image], 1)[image]["allow"])


READERS: Mapping[str, Callable[[Scene, Reference, Descriptor, str], bool]] = {
    "countersign": by_gate,
    "cosign 3": by_cosign,
    "notation CLI": by_notation,
    "CRI-O's library": by_library,
}


@pytest.fixture(scope="module")
def cells() -> Iterator[dict[str, list[str]]]:
    """Gather what came out, and write it where that is asked for."""
    found: dict[str, list[str]] = {}
    yield found
    if os.environ.get("READERS_TABLE") == "write":
        lines = [("signed by", *READERS), ("---",) * (1 + len(READERS)), *((row, *each) for row, each in found.items())]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(BETWEEN.sub(lambda _: table, text), encoding="utf-8")


@pytest.mark.parametrize("signer", SIGNERS)
def test_each_reads_what_the_table_says(scene: Scene, signer: str, cells: dict[str, list[str]]) -> None:
    root, signs = SIGNERS[signer]
    ref = parse(f"{scene.lab.netloc}/readers/{uuid.uuid4().hex}:v1")
    target = push_image(scene.lab.client, ref.name, "v1", ref.name)
    assert not any(reads(scene, ref, target, root) for reads in READERS.values()), "nobody has signed it yet"
    signs(scene, ref, target)
    cells[signer] = ["yes" if reads(scene, ref, target, root) else "no" for reads in READERS.values()]
    assert (cells[signer][0] == "yes") == (signer != CHAINED)
    if os.environ.get("READERS_TABLE") != "write":
        assert f"| {signer} | {' | '.join(cells[signer])} |\n" in PAGE.read_text(encoding="utf-8")
