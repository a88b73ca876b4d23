"""What other engines can read of an image: by facts, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from countersign.console.config import ROOT
from signing import engines

FORMATS = {"bundle", "attachment", "notation"}
WORKFLOW = {
    "names": ["https://github.com/acme/app/.github/workflows/r.yml@refs/tags/v1"],
    "issuer": "https://i.example",
}
PERSON = {"names": ["me@acme.example"], "issuer": "https://i.example"}


def one(format_: str, signer: Mapping[str, Any], *, attestation: bool = False, **more: Any) -> dict[str, Any]:
    return {"format": format_, "id": "0123456789abcdef", "signer": signer, "attestation": attestation, **more}


def read(*hanging: Mapping[str, Any]) -> dict[str, engines.Reading]:
    return {each.engine.name: each for each in engines.explain({"digests": [{"signatures": hanging}]})}


PODMAN = "CRI-O's own engine, Podman, Skopeo (go.podman.io/image)"


def test_the_facts_are_well_formed_and_have_sources() -> None:
    for each in engines.engines():
        assert each.sources
        for formats in (each.reads, each.attests):
            assert set(formats) <= FORMATS
            assert {kind for kinds in formats.values() for kind in kinds} <= set(engines.KINDS)
        assert set(each.add) <= set(each.reads)
        own = [source for source in each.sources if not source.startswith("https://")]
        assert all((ROOT / source).is_file() for source in own), own
    names = [each.name for each in engines.engines()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("signature", "kind"),
    [
        (one("bundle", {"key": "sha256:ab"}), "key"),
        (one("bundle", WORKFLOW), "keyless-uri"),
        (one("attachment", PERSON), "keyless-email"),
        (one("attachment", {"names": ["me@acme.example"]}), "pki"),
        (one("notation", {"names": ["CN=x"]}), "notation"),
        (one("attachment", {}), "key"),
    ],
)
def test_who_signs_is_told_from_what_the_signature_says(signature: dict[str, Any], kind: str) -> None:
    assert engines.kind(signature) == kind


def test_a_bundle_is_unreadable_to_podman_until_an_attachment_is_added() -> None:
    bundle = one("bundle", {"key": "sha256:ab"})
    alone = read(bundle)[PODMAN]
    assert (alone.reads, alone.not_read) == ([], ["bundle 0123456789ab (signature by key)"])
    assert "signing.sign --format attachment" in alone.add
    both = read(bundle, one("attachment", {"key": "sha256:ab"}))[PODMAN]
    assert (both.reads, both.add) == (["attachment 0123456789ab (signature by key)"], "")


def test_a_workflow_is_readable_in_no_format_there() -> None:
    assert not read(one("attachment", WORKFLOW))[PODMAN].reads
    assert read(one("attachment", PERSON))[PODMAN].reads


def test_what_the_sources_do_not_say_is_not_known() -> None:
    talos = read(one("bundle", WORKFLOW))["Talos Linux, ImageVerificationConfig"]
    assert (talos.reads, len(talos.unknown), talos.add) == ([], 1, "")


def test_an_attestation_is_no_signature_and_what_cannot_be_read_is_left_out() -> None:
    attested = one("bundle", {"key": "sha256:ab"}, attestation=True)
    gate = read(attested, one("bundle", {}, problem="rubbish"))["cosign 3"]
    assert gate.reads == ["bundle 0123456789ab (attestation by key)"]
    assert gate.add
    lines = [line for line, _ in engines.drawn(engines.explain({"digests": [{"signatures": [attested]}]}))]
    assert lines[1].startswith("✗ CRI-O's own engine")
    assert engines.as_json([gate])[0]["reads"] == list(gate.reads)
