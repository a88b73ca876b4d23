"""CRI-O's own policy: ``Policy`` → containers-policy.json(5), its keys, and where signatures and registries lie.

CRI-O's engine is go.podman.io/image. It reads signatures in the format ``attachment`` only, on the manifest
that it pulls (of an index, the platform's own), and knows no revocation. What it cannot say is left to the gate
(`LIMITS`); no rule is weakened here: where it knows less, it refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from countersign.oci import reference
from countersign.policy import canary
from countersign.policy import crio_certificates as certificates
from countersign.policy.model import Policy, Root, Rule
from countersign.policy.part import Engine, part

LIMITS: Mapping[str, Sequence[str]] = {
    "crio": (
        "signatures in the format bundle are not read: an image that has no others is refused",
        "attestations, and roots by certificate that it cannot say, are judged by the gate alone, at create",
        "certificates count for attachments alone: of pki while they are valid, of keyless with the time of a Rekor v1",
        "revoked.certificates, and further names of a certificate, are judged by the gate alone, at create",
        "a signature on an index says nothing of its manifests: sign both, as signing.sign does",
        "revoked.digests is enforced by the gate, at start",
        "a pin is accepted by its digest; the name by tag that a kubelet pulls is added by crio.configure",
    ),
}
ENGINE = Engine("CRI-O's own engine", certificates.why_not, beside=certificates.beside, alternatives=False)
ACCEPT: list[dict[str, Any]] = [{"type": "insecureAcceptAnything"}]
REJECT: list[dict[str, Any]] = [{"type": "reject"}]


def render(policy: Policy) -> bytes:
    """Return CRI-O's policy with the keys in the folder where crio.configure puts them."""
    return policy_json(policy, "/etc/countersign/crio/keys")


def policy_json(
    policy: Policy, keys_folder: str, *, extra_pins: Iterable[str] = (), accept_tags: Iterable[str] = ()
) -> bytes:
    """Return containers-policy.json(5).

    Args:
        keys_folder: where `key_files` lie on the node.
        extra_pins: ``repository@sha256:…`` beside those of the policy. A pin of a revoked digest is rejected.
        accept_tags: ``repository:tag`` that is accepted by this engine; the gate decides about it by digest.
    """
    policy, _ = part(policy, ENGINE)
    revoked = frozenset(policy.revoked_keys)
    scopes = {name: _rule(scope.rule, policy.roots, keys_folder, revoked) for name, scope in policy.scopes.items()}
    for pin in (*policy.pinned, *extra_pins):
        ref = reference.parse(pin)
        scopes[str(ref)] = REJECT if ref.digest in policy.revoked_digests else ACCEPT
    for name in accept_tags:
        scopes[str(reference.parse(name))] = ACCEPT
    scopes[canary.REGISTRY] = [_signed(_keys([_canary_key(keys_folder)]))]
    scopes[canary.REPOSITORY] = ACCEPT  # the gate alone is to refuse it, at create
    return _json({"default": REJECT, "transports": {"docker": dict(sorted(scopes.items()))}})


def _rule(rule: Rule, roots: Mapping[str, Root], folder: str, revoked: frozenset[str]) -> list[dict[str, Any]]:
    if not rule.roots:
        return ACCEPT if rule.kind == "accept" else REJECT
    certified = [certificates.requirement(roots[name]) for name in rule.roots if roots[name].certificates]
    named = [_paths(roots[name], folder, revoked) for name in rule.roots if roots[name].keys]
    if rule.kind == "allOf":
        return [_signed(each) for each in [*map(_keys, named), *certified]] if all(named) else REJECT
    if certified:
        return [_signed(each) for each in certified]  # it is the only one: see `ENGINE`
    every = list(dict.fromkeys(path for paths in named for path in paths))
    return [_signed(_keys(every))] if every else REJECT


def _keys(paths: Sequence[str]) -> dict[str, Any]:
    return {"keyPath": paths[0]} if len(paths) == 1 else {"keyPaths": list(paths)}


def _signed(by: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "sigstoreSigned", **by, "signedIdentity": {"type": "matchRepository"}}


def _paths(root: Root, folder: str, revoked: frozenset[str]) -> list[str]:
    return [f"{folder}/{_file(root, number)}" for number, key in enumerate(root.keys) if key.fingerprint not in revoked]


def _file(root: Root, number: int) -> str:
    return f"{root.name}-{number}.pub"


def _canary_key(folder: str) -> str:
    return f"{folder}/{canary.ROOT}.pub"


def key_files(policy: Policy, keys_folder: str) -> dict[str, bytes]:
    """Return path on the node → public key in PEM, without the revoked ones."""
    found = {
        f"{keys_folder}/{_file(root, number)}": key.pem.encode()
        for root in policy.roots.values()
        for number, key in enumerate(root.keys)
        if key.fingerprint not in policy.revoked_keys
    }
    return {**found, _canary_key(keys_folder): canary.KEY.encode()}


def registries_d(policy: Policy) -> bytes:
    """Return containers-registries.d(5): each registry of the policy has its signatures beside its images."""
    return attachments_of({name.partition("/")[0] for name in policy.scopes})


def attachments_of(hosts: Iterable[str]) -> bytes:
    """Return containers-registries.d(5) that says of registries that their signatures lie beside their images.

    Without it an image is pulled without signatures, and refused at pull and at every later start. The engine
    asks it for the place where a registry really is: a mirror or another location counts under its own name.
    """
    import yaml

    return yaml.safe_dump({"docker": {host: {"use-sigstore-attachments": True} for host in sorted(hosts)}}).encode()


def registries_conf(registries: Mapping[str, tuple[str, bool]]) -> bytes:
    """Return containers-registries.conf(5), version 2.

    Args:
        registries: name in image references → where it is (``HOST:PORT``), and whether it speaks plain HTTP.
    """
    import tomlkit

    document = tomlkit.document()
    tables = tomlkit.aot()
    for name, (location, insecure) in sorted(registries.items()):
        table = tomlkit.table()
        table.update({"prefix": name, "location": location, "insecure": insecure})
        tables.append(table)
    document["registry"] = tables
    return tomlkit.dumps(document).encode()


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
