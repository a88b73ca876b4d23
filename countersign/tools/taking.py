"""A release's programs, taken over HTTPS and verified before anything of them is used.

A release is what its signed checksums name (``SHA256SUMS``): they bind each program's digest to its name, and so to
version and architecture. The signature is verified by the sigstore library, under the exact identity of the release's
own workflow at its own tag; a SHA-256 that ``versions.toml`` pins takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from countersign.oci.credentials import Credentials
from countersign.oci.errors import Malformed, RegistryAuth, RegistryError
from countersign.oci.hosts import Host
from countersign.oci.messages import Request
from countersign.oci.proxy import from_environment
from countersign.oci.transport import Transport
from countersign.tools.recipes import Recipe
from countersign.tools.released import OTHERWISE, Wanted, check_version, sha256

SUMS, BUNDLE = "SHA256SUMS", "SHA256SUMS.sigstore.json"
_MOST = 128 << 20  # bytes of a program
_FEW = 1 << 20  # bytes of the other files
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S+)")
_OK, _NOT_FOUND = 200, 404


class NotReached(InfrastructureError):
    """The release is not to be had: no network, no answer, or none of that version."""


class Refused(VerdictError):
    """What was fetched is not the release."""

    def __init__(self, found: str, where: str, expected: str = "") -> None:
        super().__init__(f"refused: {found}", where=where, expected=expected, do=f"{OTHERWISE}, or name another source")


def take(recipe: Recipe, release: Wanted, into: Path, environment: Mapping[str, str]) -> None:
    """Fetch and verify a recipe's programs; each gets a folder that is called by its SHA-256.

    Args:
        into: an empty folder.
        environment: says by which proxy it is reached.

    Raises:
        NotReached: there is no such release there, or no answer.
        Refused: something is not what it should be.
        UsageError: the trusted root or the proxy cannot be used.
    """
    source = _Source(release, environment)
    pinned, names = release.released.hashes, [release.file(tool) for tool in recipe.tools]
    sums = pinned if all(name in pinned for name in names) else {**_signed(release, source), **pinned}
    for tool, name in zip(recipe.tools, names, strict=True):
        if name not in sums:
            raise Refused(f"it does not have {name}", source.url(SUMS), "a release with it")
        folder = into / sums[name]
        folder.mkdir(exist_ok=True)
        path = folder / tool.file
        with path.open("wb") as file:
            source.get(name, _MOST, file)
        if (found := sha256(path)) != sums[name]:
            raise Refused(f"it is sha256:{found}", source.url(name), f"sha256:{sums[name]}")
        path.chmod(0o755)
        if tool.name == release.released.tells and (said := check_version(release, path)):
            raise Refused(f"it says that it is {said!r}", source.url(name), f"{tool.name} {release.version}")


def _signed(release: Wanted, source: _Source) -> Mapping[str, str]:
    """Return file → SHA-256 of the release's checksums, whose signature holds."""
    content = source.get(SUMS, _FEW, first=True)
    verify(release, content, source.get(BUNDLE, _FEW), source.url(BUNDLE))
    lines = content.decode(errors="replace").splitlines()
    return {match[2]: match[1] for line in lines if (match := _LINE.fullmatch(line))}


def verify(release: Wanted, content: bytes, bundle: bytes, where: str) -> None:
    """Verify a Sigstore bundle (v0.1 to v0.3) over a file's content, offline, under the release's exact identity.

    Args:
        release: by whom it must be signed, and whom to trust in that.
        where: it came from, for the message.

    Raises:
        Refused: it does not hold.
        UsageError: the trusted root is not one.
    """
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import AllOf, Identity, OIDCIssuerV2
    from sigstore_models.trustroot.v1 import TrustedRoot as Parsed

    try:
        verifier = Verifier(trusted_root=TrustedRoot(Parsed.from_json(release.trusted_root)))
    except Exception as err:  # whatever the library says of a file that is not one
        raise UsageError(
            f"cannot be used: {_first_line(err)}", where="tools.trusted_root", expected="a Sigstore's trusted root"
        ) from err
    whom = AllOf([OIDCIssuerV2(release.released.issuer), Identity(identity=release.subject)])
    try:
        verifier.verify_artifact(content, Bundle.from_json(bundle), whom)
    except Exception as err:  # the bytes may be hostile: whatever the library trips over is not a signature
        expected = f"a signature by {release.subject}, as {release.released.issuer} tells it"
        raise Refused(_first_line(err), where, expected) from err


class _Source:
    """The folder of a release, over HTTPS: bounded in bytes, time and redirects."""

    def __init__(self, release: Wanted, environment: Mapping[str, str]) -> None:
        self._release = release
        split = urlsplit(release.url)
        self._host = Host(split.netloc, split.scheme, split.netloc, split.path)
        self._transport = Transport(Credentials(), allow_http=False, proxies=from_environment(environment))

    def url(self, name: str) -> str:
        return f"{self._release.url}/{name}"

    def get(self, name: str, limit: int, into: BinaryIO | None = None, *, first: bool = False) -> bytes:
        """Return a file's content, or write it.

        Args:
            limit: the most bytes that it may have.
            into: takes the content, if given.
            first: without it there is no such release.
        """
        url = self.url(name)
        try:
            answer = self._transport.send(self._host, "", Request("GET", url, limit=limit, into=into))
        except Malformed as err:
            raise Refused(err.found, url, f"at most {limit} bytes") from err
        except RegistryAuth as err:
            raise NotReached("wants a login", where=url, do=f"name a source without one, or {OTHERWISE}") from err
        except RegistryError as err:
            raise NotReached(f"cannot be fetched: {err.found}", where=url, do=f"repeat, or {OTHERWISE}") from err
        if answer.status == _NOT_FOUND and not first:
            raise Refused("there is no such file", url, "what a release has")
        if answer.status != _OK:
            raise NotReached(f"HTTP {answer.status}", where=url, do=f"name a release that is there, or {OTHERWISE}")
        return answer.body


def _first_line(err: Exception) -> str:
    return next(iter(str(err).splitlines()), "") or type(err).__name__
