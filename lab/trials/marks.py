"""How images of the matrix are made, as ``matrix.yaml`` says it: what is done to each, step by step, in its order."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Whose = Literal["ours", "strangers"]
When = Literal["now", "past", "future"]


class Strict(BaseModel):
    """An entry that has no members but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stamp(Strict):
    """The timestamp of a signature, of when its certificate was valid.

    Attributes:
        by: an authority that the scope trusts, one whose certificate had ended, or one that nobody trusts.
        late: it is of now.
        of_another: it is over something else than the signature.
        altered: its last byte is another.
    """

    by: Literal["ours", "ended", "strangers"] = "ours"
    late: bool = False
    of_another: bool = False
    altered: bool = False


class Mark(Strict):
    """A signature or attestation, and what is wrong with it; of each digest of the image unless ``only`` says less.

    Attributes:
        by: whose it is: a key's name; or somebody with a certificate: the workflow, the person, a person whom our list
            of revoked certificates has, a workflow whose certificate the policy revokes.
        formats: in which it is written; ``att`` is how cosign 2 attaches attestations.
        only: the digests that get one.
        of_other: it is valid, and for another digest.
        altered: the signature stands beside content that it does not sign.
        authority: whose certificate it is; ``name``: what stands otherwise in its name; ``issuer``: who vouched for
            that, where it is another; ``valid``: when; ``sct``: whether a log of certificates has it; ``usage``: what
            it is for.
        log: whose log has an entry of it; without it, ours for a workflow, and none for a person.
        entry: that of another signature, or with an earlier time than the log has signed.
        type: what is stated; ``predicate``: the content, of `lab.trials.images.PREDICATES`; ``days_ago``: when.
    """

    by: Literal["team", "second", "old", "leaver", "stranger", "workflow", "person", "listed", "revoked"]
    formats: tuple[Literal["attachment", "bundle", "att"], ...] = ("attachment", "bundle")
    only: Literal["", "index", "platforms"] = ""
    of_other: bool = False
    altered: bool = False
    authority: Whose = "ours"
    name: dict[str, str] = {}
    issuer: str = ""
    valid: When = "now"
    sct: bool = True
    usage: Literal["code", "server"] = "code"
    log: Whose | Literal["", "none"] = ""
    entry: Literal["", "other", "earlier"] = ""
    stamp: Stamp | None = None
    type: Literal["", "slsa", "spdx", "cyclonedx"] = ""
    predicate: str = "none"
    days_ago: int = 0


class Notarized(Strict):
    """A signature of the Notary Project.

    Attributes:
        notary: whose certificate; ``revoked`` is one that the policy revokes.
        authority, valid: of the certificate.
        until: the signature ends by its own word.
        wrong: what is wrong with the envelope: its signature is nothing or that of another payload, it is for another
            digest, its chain lacks the root, or it is none, with a bundle in its place.
    """

    notary: Literal["release", "intern", "revoked"]
    authority: Whose = "ours"
    valid: When = "now"
    until: bool = False
    wrong: Literal["", "no signature", "other signature", "other digest", "no root", "rubbish"] = ""


class Push(Strict):
    """The tag moves to another image.

    Attributes:
        push: the other image's mark.
        hidden: what is imported is still the old one.
        carries: what hangs on the old index is copied onto the new one.
    """

    push: str
    hidden: bool = False
    carries: bool = False


class Copied(Strict):
    """Image and signatures by the team, in that format, lie in another repository, and are copied from it."""

    copied: Literal["attachment", "bundle"]


Step = Mark | Notarized | Push | Copied
