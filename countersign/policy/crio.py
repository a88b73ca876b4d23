"""CRI-O's own policy: what its engine cannot judge; the gate's program renders the rest, on nodes as well as here.

CRI-O's engine is go.podman.io/image. It reads signatures in the format ``attachment`` only, on the manifest
that it pulls (of an index, the platform's own), and knows no revocation. What it cannot say is left to the gate
(`LIMITS`); no rule is weakened here: where it knows less, it refuses. (gate/internal/containerspolicy)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.policy import conditions
from countersign.policy import crio_certificates as certificates
from countersign.policy.model import Policy
from countersign.policy.part import Engine

if TYPE_CHECKING:
    from countersign.console.config import Settings

VERSION = "countersign.crio-policy/v1"
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


@dataclass(frozen=True)
class Rendered:
    """What the engine is given.

    Attributes:
        policy: containers-policy.json(5), keys inline.
        registries_d: containers-registries.d(5): each registry of the policy has its signatures beside its images.
    """

    policy: bytes = field(repr=False)
    registries_d: bytes = field(repr=False)


def render(
    policy: Policy, settings: Settings, *, pins: Sequence[str] = (), tags: Sequence[str] = (), lenient: bool = False
) -> Rendered:
    """Return what the engine is given for a policy.

    Args:
        policy: the policy.
        settings: by which the gate's program is found, or built.
        pins: ``repository@sha256:…`` beside those of the policy. A pin of a revoked digest is rejected.
        tags: ``repository:tag`` that is accepted by this engine; the gate decides about it by digest.
        lenient: it lets pass what the gate verifies at start, and still refuses what is in no scope or rejected.

    Raises:
        PolicyInvalid: the gate does not load the policy.
        MissingError: there is no gate, and this machine cannot build it.
        InfrastructureError: it did not answer, or is not the one of this checkout.
    """
    from countersign.tools.resolver import tool

    program = tool(conditions.PROGRAM, settings)
    options = ["--crio-engine", "lenient" if lenient else "strict", *(f"--tag={tag}" for tag in tags)]
    return _read(conditions.said(policy, program, ["crio-policy", *options], tuple(pins)), program)


def _read(said: bytes, program: Path) -> Rendered:
    try:
        document = json.loads(said)
        version = document["version"]
        found = Rendered(document["policy"].encode(), document["registriesD"].encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        version, found = "no answer that can be read", Rendered(b"", b"")
    if version != VERSION:
        raise InfrastructureError(f"gave {version}", where=f"{program} crio-policy", expected=VERSION)
    return found
