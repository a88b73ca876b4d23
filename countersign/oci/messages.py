"""A request to a registry's server, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from countersign.oci.errors import RegistryError

SMALL = 1 << 20  # bytes of an answer that brings no content
Body = bytes | BinaryIO | None


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        url: an absolute URL.
        body: bytes or a seekable file.
        limit: the most bytes to accept as the answer's body, if it brings content.
        into: a file that takes the content instead of the answer, from its start.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    limit: int = SMALL
    into: BinaryIO | None = None


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read whole.

    Attributes:
        headers: the header fields, looked up without case.
        body: at most as many bytes as were allowed.
        url: where it came from, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def absolute(self, target: str) -> str:
        """Return the absolute URL of what the answer names.

        Raises:
            RegistryError: if it is not a URL.
        """
        try:
            url = urljoin(self.url, target)
            _ = urlsplit(url).port  # checked only when it is asked for
        except ValueError as err:
            raise RegistryError(f"names {target!r}, which is not a URL", where=self.url) from err
        return url
