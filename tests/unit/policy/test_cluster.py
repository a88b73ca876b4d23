"""A CountersignPolicy: what nodes make of it has the bytes that the tasks render (the gate tests the other half)."""

from __future__ import annotations

import json

from countersign.console.config import ROOT
from countersign.keys.pair import parse_public
from countersign.policy import canary, cluster, gate
from countersign.policy.model import Attestation, Keyless, Policy, Revocations, Root, Rule, Scope

FILES = ROOT / "gate" / "internal" / "agent" / "testdata"
PINNED = "registry.example/pause@sha256:" + "a" * 64


def test_the_vectors_of_the_gates_tests_are_what_is_rendered() -> None:
    policy = _policy()
    assert FILES.joinpath("policy.json").read_bytes() == gate.render(policy)
    assert FILES.joinpath("countersignpolicy.json").read_bytes() == cluster.render(policy)


def test_a_manifest_has_neither_version_nor_canary() -> None:
    spec = json.loads(cluster.render(_policy()))["spec"]
    assert set(spec) == {"roots", "scopes", "pinned", "revoked"}
    assert set(spec["roots"]) == {"team", "ci"}
    assert canary.REGISTRY not in spec["scopes"]


def _policy() -> Policy:
    trusted = {"mediaType": "a trusted root", "name": "Zürich <&> 🔏"}
    keyless = Keyless("https://i.example", "https://g.example/acme/app/*", {"ref": "main"}, (trusted,), {"log": 1})
    attested = Attestation("https://slsa.dev/provenance/v1", ("ci",), 'a.b < 1 && c == "d"', 3600)
    text = '{"name": "acme", "of": "Zürich <&> 🔏"}\n'
    shared = Revocations(ROOT / "acme.json", "acme", 1, "2026-11-29", (canary.KEY,), text, ("AAAA",))
    rules = {
        "r.example/a": Rule("anyOf", ("team", "ci"), ("bundle",)),
        "r.example/b": Rule("allOf", ("team",), (), "", (attested,)),
        "r.example/c": Rule("accept"),
    }
    return Policy(
        ROOT / "policy.yaml",
        {"team": Root("team", (parse_public(canary.KEY.encode(), "key"),)), "ci": Root("ci", (), keyless)},
        {name: Scope(name, name, rule, 1) for name, rule in rules.items()},
        (PINNED,),
        ("sha256:" + "b" * 64,),
        ("sha256:" + "c" * 64,),
        (("CN=a", "0f"), "sha256:" + "d" * 64),
        (shared,),
    )
