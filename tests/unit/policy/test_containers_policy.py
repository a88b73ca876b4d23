"""What the gate gives CRI-O's own engine on a node is what is rendered here (the gate's package containerspolicy tests
the other half, by the same vectors)."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.keys.pair import parse_public
from countersign.policy import canary, crio, gate
from countersign.policy.model import Policy
from crio.render import lenient

Load = Callable[[str], Policy]

FILES = ROOT / "gate" / "internal" / "judge" / "testdata"
VECTORS = ROOT / "shared" / "vectors" / "containers-policy.json"
KEYS = "/keys"
PIN, REVOKED = "r.example/pinned@sha256:" + "a" * 64, "r.example/pinned@sha256:" + "b" * 64
KEYLESS = "issuer: https://i.example, trustedRoot: [tr-v1.json]"
PKI = "roots: [byo-root.pem], intermediates: [byo-int.pem]"
TEAMS = """
  team: {publicKey: {files: [one.pub]}}
  both: {publicKey: {files: [one.pub, two.pub]}}
"""
BY_KEYS = """
  r.example: reject
  s.example/open: accept
  s.example/any: {anyOf: [team, both]}
  s.example/all: {allOf: [team, both]}
  s.example/bundle: {anyOf: [team], formats: [bundle]}
  s.example/attachment: {anyOf: [team], formats: [attachment, bundle]}
"""
OTHERS = f"""
  mail: {{pki: {{{PKI}, email: release@example.test}}}}
  name: {{pki: {{{PKI}, dns: build.example.test}}}}
  person: {{keyless: {{{KEYLESS}, subject: someone@example.test}}}}
  anyone: {{keyless: {{{KEYLESS}, subject: '*@example.test'}}}}
  workflow: {{keyless: {{{KEYLESS}, subject: 'https://github.com/acme/app/*'}}}}
  unlogged: {{keyless: {{{KEYLESS}, subject: someone@example.test, require: {{log: 0}}}}}}
  several: {{keyless: {{issuer: https://i.example, trustedRoot: [tr-v1.json, tr-ct.json], subject: a@example.test}}}}
"""
BY_CERTIFICATES = """
  t.example/mail: {anyOf: [mail]}
  t.example/mail-or-key: {anyOf: [mail, team]}
  t.example/mail-and-key: {allOf: [mail, team]}
  t.example/name: {anyOf: [name]}
  t.example/name-and-key: {allOf: [name, team]}
  u.example/person: {anyOf: [person]}
  u.example/anyone: {anyOf: [anyone]}
  u.example/workflow: {anyOf: [workflow]}
  u.example/unlogged: {anyOf: [unlogged]}
  u.example/several: {anyOf: [several]}
"""
KEYS_ALONE = f"roots: {TEAMS}scopes: {BY_KEYS}"
TEXTS = {
    "nothing": "",
    "keys": f"{KEYS_ALONE}pinned: ['{PIN}', '{REVOKED}']\nrevoked: {{digests: ['{REVOKED[-71:]}']}}\n",
    "a key of two is revoked": f"{KEYS_ALONE}revoked: {{keys: [two.pub]}}\n",
    "all keys are revoked": f"{KEYS_ALONE}revoked: {{keys: [one.pub, two.pub]}}\n",
    "certificates": f"roots: {TEAMS}{OTHERS[1:]}scopes: {BY_CERTIFICATES}",
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name in ("tr-v1.json", "tr-ct.json", "byo-root.pem", "byo-int.pem"):
        shutil.copy(FILES / name, tmp_path)
    kept = json.loads(VECTORS.read_text())["keys"] if VECTORS.is_file() else []
    for name, key in zip(("one.pub", "two.pub"), kept, strict=True):
        (tmp_path / name).write_text(parse_public(key.encode(), name).pem)


def test_the_vectors_of_the_gates_tests_are_what_is_rendered(loaded: Load) -> None:
    vectors = json.loads(VECTORS.read_text())
    assert vectors["policies"] == [_vector(name, loaded(text)) for name, text in TEXTS.items()]


def _vector(name: str, policy: Policy) -> dict[str, Any]:
    strict = json.loads(crio.policy_json(policy, KEYS))["transports"]["docker"]
    return {
        "name": name,
        "policy": json.loads(gate.render(policy)),
        "strict": _inline(strict, crio.key_files(policy, KEYS)),
        "lenient": _inline(lenient(strict), crio.key_files(policy, KEYS)),
        "registries": yaml.safe_load(crio.registries_d(policy)),
    }


def _inline(scopes: Mapping[str, list[dict[str, Any]]], files: Mapping[str, bytes]) -> dict[str, list[dict[str, Any]]]:
    """Return requirements with the keys in the place of their files, as the gate writes them."""

    def of(requirement: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in requirement.items() if name not in ("keyPath", "keyPaths")}
        paths = requirement.get("keyPaths") or [path for path in [requirement.get("keyPath")] if path]
        datas = [base64.b64encode(files[path]).decode() for path in paths]
        return {**rest, **({"keyData": datas[0]} if len(datas) == 1 else {"keyDatas": datas} if datas else {})}

    return {name: [of(each) for each in requirements] for name, requirements in scopes.items()}


def test_the_vectors_have_the_canary() -> None:
    for vector in json.loads(VECTORS.read_text())["policies"]:
        assert vector["strict"][canary.REPOSITORY] == [{"type": "insecureAcceptAnything"}]
        assert vector["lenient"][canary.REGISTRY][0]["type"] == "sigstoreSigned"
