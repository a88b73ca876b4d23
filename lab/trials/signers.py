"""Who signs the images whose scope asks for a certificate."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from countersign.keys import issue
from lab.trials import authority, notaries, timestamps
from lab.trials.authority import CODE_SIGNING, LASTING, Authority, Signer
from lab.trials.notaries import NotaryAuthority, NotarySigner
from lab.trials.timestamps import Stamper

ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
PERSON = "release@acme.example"
_HOUR, _YEAR = dt.timedelta(hours=1), dt.timedelta(days=365)
PAST, FUTURE = (-2 * _HOUR, -_HOUR), (4 * _YEAR, 5 * _YEAR)
THEN = 1.5 * _HOUR
"""How long before now what is valid in `PAST` was."""
_ENDED = (-_YEAR, -2 * _HOUR)


@dataclass(frozen=True)
class Authorities:
    """Who issues certificates while images are built.

    Attributes:
        ours, strangers: one that the policy trusts, and one that it does not.
        leaver: a signer of ours whose certificate the policy revokes.
        listed: a person of ours whom our list of revoked certificates has.
        stamper, old_stamper, other_stamper: a timestamp authority that the policy trusts, one whose certificate has
            ended, and one that it does not trust.
        notary, other_notary, notary_leaver: the same for signatures of the Notary Project.
    """

    ours: Authority
    strangers: Authority
    leaver: Signer
    listed: Signer
    stamper: Stamper
    old_stamper: Stamper
    other_stamper: Stamper
    notary: NotaryAuthority
    other_notary: NotaryAuthority
    notary_leaver: NotarySigner


def make(folder: Path) -> Authorities:
    """Make them, and write what the policy has of them: ``trusted_root.json``, ``ca.pem``, ``notary.pem`` and so on."""
    ours, notary = authority.make(), notaries.make()
    stampers = timestamps.make(), timestamps.make(_ENDED), timestamps.make()
    people = workflow(ours), person(ours)
    found = Authorities(ours, authority.make(), *people, *stampers, notary, notaries.make(), notary.issue())
    (folder / "trusted_root.json").write_text(json.dumps(ours.trusted_root()))
    (folder / "ca.pem").write_text(ours.pem)
    (folder / "tsa.pem").write_text(found.stamper.pem)
    (folder / "old-tsa.pem").write_text(found.old_stamper.pem)
    (folder / "ca.crl").write_text(ours.crl(found.listed))
    (folder / "old.crl").write_text(ours.crl(valid=PAST))
    (folder / "leaver.pem").write_text(found.leaver.pem)
    (folder / "notary.pem").write_text(notary.pem)
    (folder / "notary-leaver.pem").write_text(issue.pem(found.notary_leaver.chain[0]))
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
