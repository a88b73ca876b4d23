"""What a policy.yaml is said to leave to the gate is what the gate's program leaves out for CRI-O's own engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.console.config import ROOT, Settings
from countersign.keys.pair import generate
from countersign.policy import crio
from countersign.policy.load import load
from countersign.policy.model import Policy
from countersign.policy.part import part

FILES = ROOT / "gate" / "internal" / "judge" / "testdata"
KEYLESS = "issuer: https://i.example, trustedRoot: [tr-v1.json]"
PKI = "roots: [byo-root.pem], intermediates: [byo-int.pem]"
NOTARY = "notation: {roots: [byo-root.pem], identities: ['x509.subject: C=FI, O=Acme, CN=release']}"
ROOTS = f"""roots:
  team: {{publicKey: {{files: [team.pub]}}}}
  other: {{publicKey: {{files: [other.pub]}}}}
  mail: {{pki: {{{PKI}, email: release@example.test}}}}
  name: {{pki: {{{PKI}, dns: build.example.test}}}}
  uri: {{pki: {{{PKI}, uri: 'https://a.example/x'}}}}
  person: {{keyless: {{{KEYLESS}, subject: someone@example.test}}}}
  anyone: {{keyless: {{{KEYLESS}, subject: '*@example.test'}}}}
  workflow: {{keyless: {{{KEYLESS}, subject: 'https://github.com/acme/app/*'}}}}
  unlogged: {{keyless: {{{KEYLESS}, subject: someone@example.test, require: {{log: 0}}}}}}
  several: {{keyless: {{issuer: https://i.example, trustedRoot: [tr-v1.json, tr-ct.json], subject: a@example.test}}}}
  ended: {{keyless: {{issuer: https://i.example, trustedRoot: [tr-ended.json], subject: a@example.test}}}}
  stopped: {{keyless: {{issuer: https://i.example, trustedRoot: [tr-log-ended.json], subject: a@example.test}}}}
  notary: {{{NOTARY}}}
"""
NAMES = [line.split(":")[0].strip() for line in ROOTS.splitlines()[1:]]
RULES = [
    *(f"{{anyOf: [{name}]}}" for name in NAMES),
    *(f"{{anyOf: [{name}, other]}}" for name in NAMES if name != "other"),
    *(f"{{allOf: [{name}, other]}}" for name in NAMES if name != "other"),
    "{anyOf: [team], formats: [bundle]}",
    "{anyOf: [team], formats: [attachment, bundle]}",
    "{anyOf: [team], signature: https://slsa.dev/provenance/v1}",
    "{anyOf: [team], attestations: [{type: https://slsa.dev/provenance/v1, by: [other]}]}",
]
ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
Loaded = Callable[[str], Policy]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    for name in ("tr-v1.json", "tr-ct.json", "byo-root.pem", "byo-int.pem"):
        shutil.copy(FILES / name, tmp_path)
    for name in ("team", "other"):
        (tmp_path / f"{name}.pub").write_text(generate().public.pem)
    trusted = json.loads((tmp_path / "tr-v1.json").read_text())
    ended = {"validFor": {"start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"}}
    authorities = [{**each, **ended} for each in trusted["certificateAuthorities"]]
    (tmp_path / "tr-ended.json").write_text(json.dumps({**trusted, "certificateAuthorities": authorities}))
    logs = [{**each, "publicKey": {**each["publicKey"], **ended}} for each in trusted["tlogs"]]
    (tmp_path / "tr-log-ended.json").write_text(json.dumps({**trusted, "tlogs": logs}))

    def written(text: str) -> Policy:
        path = tmp_path / "policy.yaml"
        path.write_text(f"apiVersion: countersign/v1\ndefault: reject\n{text}")
        return load(path)

    return written


def test_what_is_said_of_each_rule_is_what_the_engine_is_given(settings: Settings, loaded: Loaded) -> None:
    named = {f"r{number}.example": rule for number, rule in enumerate(RULES)}
    text = "".join(f"  {name}: {rule}\n" for name, rule in named.items())
    policy = loaded(f"{ROOTS}scopes:\n{text}  a.example: accept\n  b.example: reject\n")
    said, _ = part(policy, crio.ENGINE)
    given = json.loads(crio.render(policy, settings).policy)["transports"]["docker"]
    assert (given["a.example"], given["b.example"]) == ([ACCEPT], [REJECT])
    for name, rule in named.items():
        kept = said.scopes[name].rule
        assert (kept.kind == "accept") == (given[name] == [ACCEPT]), rule
        if kept.kind == "allOf":
            assert len(given[name]) == len(kept.roots), rule
    accepted = [given[name] == [ACCEPT] for name in named]
    assert True in accepted
    assert False in accepted
