"""What goes wrong between a CRI client and its runtime."""

from __future__ import annotations

from countersign.console.errors import InfrastructureError


class CriError(InfrastructureError):
    """The runtime refused a request, or could not be asked.

    Attributes:
        method: the CRI method, such as ``StartContainer``.
        code: the gRPC status by name, such as ``NOT_FOUND`` or ``UNAVAILABLE``.
    """

    def __init__(self, method: str, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}", where=f"CRI {method}")
        self.method = method
        self.code = code
        self.message = message
