"""By whose certificate the images of a release are signed in the format notation, and the commands that show it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from release.trust import rendered

if TYPE_CHECKING:
    from release.made import Image

STORE = "release"
"""What trust store and trust policy are called."""


@dataclass(frozen=True)
class ByCertificate:
    """Images are signed by exactly this subject, certified by one of these authorities.

    Attributes:
        roots: certificates of the authorities, each a PEM file.
        identity: the subject, in the Notary Project's words (``x509.subject: …``).
    """

    roots: tuple[Path, ...]
    identity: str

    def image(self, repository: str, scratch: Path) -> list[str]:
        """Return the options of ``countersign-gate verify`` for images of a repository."""
        root = {"roots": [str(each.resolve()) for each in self.roots], "identities": [self.identity]}
        return rendered({"notation": root}, repository, scratch / "notary.json")

    def commands(self, images: Sequence[Image]) -> Iterator[str]:
        """Yield what shows the same with the notation CLI: its configuration, in a new folder, and then each image."""
        statement = {
            "name": STORE,
            "registryScopes": [image.repository for image in images],
            "signatureVerification": {"level": "strict"},
            "trustStores": [f"ca:{STORE}"],
            "trustedIdentities": [self.identity],
        }
        policy = json.dumps({"version": "1.0", "trustPolicies": [statement]}, separators=(",", ":"))
        yield 'export XDG_CONFIG_HOME="$(mktemp -d)" && mkdir "$XDG_CONFIG_HOME/notation"'
        yield f"printf '%s' {shlex.quote(policy)} > \"$XDG_CONFIG_HOME/notation/trustpolicy.json\""
        yield shlex.join(["notation", "cert", "add", "--type", "ca", "--store", STORE, *map(str, self.roots)])
        for image in images:
            plain = ["--insecure-registry"] if image.repository.startswith(("127.", "localhost")) else []
            for digest in (image.digest, *image.platforms.values()):
                yield shlex.join(["notation", "verify", *plain, f"{image.repository}@{digest}"])
