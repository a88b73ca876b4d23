"""The demo's key pair: made once, kept through every clean."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.keys.pair import PrivateKey


def demo_key(settings: Settings) -> PrivateKey:
    """Return the demo's private key; its password lies beside it."""
    from countersign.keys import password
    from countersign.keys.pair import load_private

    path = settings.keys / "cosign.key"
    return load_private(path, password.beside(path))


@dataclass(frozen=True)
class KeyPair:
    """``cosign.key``, ``cosign.pub`` and a random ``cosign.password`` in the folder of keys.

    A public key that is there is taken as it is: it may be someone else's, without a private key.
    """

    folder: Path

    @property
    def name(self) -> str:
        """What users read."""
        return f"key pair {self.folder / 'cosign.key'}"

    def needed(self) -> bool:
        """Return whether there is no public key."""
        return not (self.folder / "cosign.pub").is_file()

    def apply(self) -> None:
        """Make all three."""
        from countersign.keys import files as keyfiles
        from countersign.keys.pair import generate
        from countersign.nodes.host import HOST

        password = secrets.token_urlsafe(24).encode()
        keyfiles.write(self.folder / "cosign", generate(), password)
        HOST.put(password + b"\n", str(self.folder / "cosign.password"), 0o600)
