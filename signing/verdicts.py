"""Why a signature does not hold: one error class with the gate's reason codes."""

from __future__ import annotations

from collections.abc import Sequence

from console.errors import VerdictError

# How far a signature got before it failed; of several, the one that got furthest says why all failed.
_PROGRESS = ("UNSIGNED", "MALFORMED", "BAD_SIGNATURE", "TAMPERED", "OTHER_IMAGE")


class NotSigned(VerdictError):
    """A signature, or all of an image's, fail to verify.

    Args:
        code: the reason code (``shared/reason-codes.json``).
        found: what was found.
        where: the image or the signature.
        expected: what was expected.
        do: what to do about it.
        details: one line for each signature, where several were looked at.
    """

    def __init__(
        self, code: str, found: str, *, where: str = "", expected: str = "", do: str = "", details: Sequence[str] = ()
    ) -> None:
        super().__init__(found, where=where, expected=expected, do=do)
        self.code = code
        self.details = list(details)

    def __str__(self) -> str:
        """Return ``where: CODE: found; expected …; do``, on one line."""
        text = super().__str__()
        return f"{self.where}: {self.code}: {text[len(self.where) + 2 :]}" if self.where else f"{self.code}: {text}"


def furthest(failures: list[NotSigned]) -> NotSigned:
    """Return the failure of the signature that got furthest; there must be one at least."""
    return max(failures, key=lambda failure: _PROGRESS.index(failure.code))
