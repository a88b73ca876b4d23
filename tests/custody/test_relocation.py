"""What an image is to be judged by where it arrives is looked at before anything is copied."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.config import Settings
from countersign.keys import pair as keys
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.policy import gate, load
from countersign.tools.resolver import tool
from signing import sign
from signing.relocation_tasks import relocate
from tests.images import push_image


def test_a_key_or_policy_that_cannot_be_used_copies_nothing(
    settings: Settings, netloc: str, context: MockContext, tmp_path: Path
) -> None:
    assert tool("countersign-gate", settings)
    registry, name = Registry(), f"{netloc}/relocation/source"
    key = keys.generate()
    sign.sign(registry, name, push_image(registry, name, "v1", name), key, ["bundle"])
    private, public, rubbish = (tmp_path / one for one in ("k.key", "k.pub", "rubbish"))
    private.write_text(key.sealed(b"pw"))
    public.write_text(key.public.pem)
    rubbish.write_bytes(b"\xe6\x00")

    def copied(number: int, by: Path, *, policy: bool) -> str:
        to = f"{netloc}/relocation/to{number}"
        option = str(by)
        relocate(
            context, [] if policy else [option], source=f"{name}:v1", to=f"{to}:v1", policy=option if policy else ""
        )
        return to

    refused = ((private, False), (rubbish, False), (tmp_path, False), (rubbish, True), (private, True))
    for number, (by, policy) in enumerate(refused):
        with pytest.raises(Exit) as caught:
            copied(number, by, policy=policy)
        assert (caught.value.code, str(caught.value.message).count("\n")) == (2, 0), caught.value.message
        digest = registry.manifest(name, "v1")[1].digest
        assert registry.manifest_or_none(f"{netloc}/relocation/to{number}", digest) is None
    written = tmp_path / "policy.yaml"
    written.write_text(
        "apiVersion: countersign/v1\nroots: {t: {publicKey: {files: [k.pub]}}}\n"
        f"scopes: {{'{netloc}': {{anyOf: [t]}}}}\n"
    )
    (tmp_path / "policy.json").write_bytes(gate.render(load.load(written)))
    for number, (by, policy) in enumerate(((public, False), (tmp_path / "policy.json", True)), len(refused)):
        there = copied(number, by, policy=policy)
        assert registry.manifest(there, "v1")[1] == registry.manifest(name, str(parse(f"{name}:v1").tag))[1]
