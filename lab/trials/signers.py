"""Who signs the images whose scope asks for a certificate."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from lab.trials import authority, notaries
from lab.trials.authority import CODE_SIGNING, LASTING, Authority, Signer
from lab.trials.notaries import NotaryAuthority, NotarySigner

ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
PERSON = "release@acme.example"
_HOUR, _YEAR = dt.timedelta(hours=1), dt.timedelta(days=365)
PAST, FUTURE = (-2 * _HOUR, -_HOUR), (4 * _YEAR, 5 * _YEAR)


@dataclass(frozen=True)
class Authorities:
    """Who issues certificates while images are built.

    Attributes:
        ours, strangers: one that the policy trusts, and one that it does not.
        leaver: a signer of ours whose certificate the policy revokes.
        notary, other_notary, notary_leaver: the same for signatures of the Notary Project.
    """

    ours: Authority
    strangers: Authority
    leaver: Signer
    notary: NotaryAuthority
    other_notary: NotaryAuthority
    notary_leaver: NotarySigner


def make(folder: Path) -> Authorities:
    """Make them, and write what the policy has of them: ``trusted_root.json``, ``ca.pem``, ``notary.pem`` and so on."""
    ours, notary = authority.make(), notaries.make()
    found = Authorities(ours, authority.make(), workflow(ours), notary, notaries.make(), notary.issue())
    (folder / "trusted_root.json").write_text(json.dumps(ours.trusted_root()))
    (folder / "ca.pem").write_text(ours.pem)
    (folder / "leaver.pem").write_text(found.leaver.pem)
    (folder / "notary.pem").write_text(notary.pem)
    (folder / "notary-leaver.pem").write_text(notaries.pem(found.notary_leaver.chain[:1]))
    return found


def workflow(
    by: Authority,
    name: str = WORKFLOW,
    *,
    issuer: str = ISSUER,
    valid: tuple[dt.timedelta, dt.timedelta] = LASTING,
    sct: bool = True,
) -> Signer:
    """Return a signer as a workflow is one; see `Authority.issue`."""
    return by.issue(x509.UniformResourceIdentifier(name), issuer, valid=valid, sct=sct)


def person(
    by: Authority,
    name: str = PERSON,
    *,
    valid: tuple[dt.timedelta, dt.timedelta] = LASTING,
    usage: x509.ObjectIdentifier = CODE_SIGNING,
) -> Signer:
    """Return a signer of a company's own authority, which has no logs; see `Authority.issue`."""
    return by.issue(x509.RFC822Name(name), valid=valid, usage=usage, sct=False)
