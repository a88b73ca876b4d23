"""Our own programs as they were released: which release is wanted, and whether its programs are here already.

What this checkout would build and what is taken have to be the same code. So a release is wanted where the checkout is
at the tag of its own version with nothing changed, or where the user names one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlsplit

from countersign.console.config import ROOT, Settings
from countersign.console.errors import MissingError, UsageError
from countersign.console.tooling import BUILT
from countersign.oci import digest as digests
from countersign.oci.hosts import is_loopback
from countersign.tools import checkout
from countersign.tools.recipes import Recipe, Released, Tool

OTHERWISE = f"set INVOKE_TOOLS_GATE_RELEASE={BUILT} to build it from this checkout"
"""What can be done where a release cannot be used."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_SIGSTORE = "https://tuf-repo-cdn.sigstore.dev"
_ROOT_LIMIT = 4 << 20  # bytes
_PATIENCE = 10  # seconds for a program to print its version


@dataclass(frozen=True)
class Wanted:
    """One release of a recipe's programs, for one kind of machine.

    Attributes:
        released: where it is, and by whom.
        version: which one, without a v.
        architecture: as Go calls it.
        asked: the user named it: nothing may stand in for it.
        url: of the folder with its files.
        trusted_root: of the Sigstore that vouches for it, JSON.
    """

    released: Released
    version: str
    architecture: str
    asked: bool
    url: str
    trusted_root: bytes

    @property
    def subject(self) -> str:
        """The identity that must have signed it."""
        return self.released.subject.replace("{version}", self.version)

    def file(self, tool: Tool) -> str:
        """Return what a program is called in the release."""
        return f"{tool.name}-{self.version}-linux-{self.architecture}"

    def key(self) -> str:
        """Return the name of its folder in the cache: the release, and a hash of all that it was verified by."""
        pinned = sorted(self.released.hashes.items())
        by = repr((self.released.issuer, self.subject, self.released.tells, pinned, self.trusted_root))
        return f"v{self.version}-{self.architecture}-{hashlib.sha256(by.encode()).hexdigest()[:12]}"


def wanted(recipe: Recipe, settings: Settings) -> Wanted | None:
    """Return the release that a recipe's programs are to be taken from; None: they are built.

    Raises:
        MissingError: the user asks for one, and there is none for this machine.
        UsageError: a setting that cannot be used.
    """
    said, released = settings.tools.gate_release, recipe.released
    if released is None or said == BUILT or (not said and difference(recipe)):
        return None
    architecture = _MACHINES.get(platform.machine(), "")
    if not architecture and said:
        machines = " and ".join(_MACHINES.values())
        raise MissingError(f"is released for {machines}; this is {platform.machine()}", where=recipe.name, do=OTHERWISE)
    if not architecture:
        return None
    version = said or checkout.version(ROOT)
    url = _url(settings.tools.gate_url or released.url, version)
    return Wanted(released, version, architecture, bool(said), url, _trusted_root(settings.tools.trusted_root))


def difference(recipe: Recipe) -> str:
    """Return what tells this checkout from the release of its version, as far as a recipe goes; empty if nothing."""
    version = checkout.version(ROOT)
    return checkout.difference(ROOT, recipe.folder, f"v{version}") if version else "this checkout has no version"


def on_path(recipe: Recipe, release: Wanted, tool: Tool) -> Path | None:
    """Return a program on PATH, if the one that tells its version is there beside it and is of exactly this release."""
    teller = shutil.which(release.released.tells)
    if teller is None or tells(Path(teller)) != _said(release):
        return None
    found = {each.name: Path(teller).with_name(Path(each.file).name) for each in recipe.tools}
    return found[tool.name] if all(path.is_file() and os.access(path, os.X_OK) for path in found.values()) else None


def kept(place: Path, tool: Tool) -> Path | None:
    """Return a program in a release's folder of the cache, if it still has the digest that it is kept under."""
    for path in place.glob(f"*/{tool.file}"):
        if path.is_file() and sha256(path) == path.parent.name:
            return path
    return None


def check_version(release: Wanted, program: Path) -> str:
    """Return what a program says that it is, if that is not this release."""
    said = tells(program)
    return "" if said == _said(release) else said or "nothing"


def tells(program: Path) -> str:
    """Return what a program prints when it is asked for its version; empty if it fails."""
    try:
        ended = subprocess.run(
            [program, "version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout[:200].decode(errors="replace").strip() if ended.returncode == 0 else ""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return digests.of_file(file).removeprefix("sha256:")


def _said(release: Wanted) -> str:
    return f"{release.released.tells} {release.version}"


def _url(template: str, version: str) -> str:
    url = template.replace("{version}", version).rstrip("/")
    try:
        split = urlsplit(url)
        good = split.scheme == "https" or (split.scheme == "http" and is_loopback(split.netloc))
        good = good and bool(split.hostname) and not split.query and not split.fragment and (split.port or 1) > 0
    except ValueError:
        good = False
    if not good or "{" in url or not url.isascii() or not url.isprintable() or " " in url:
        where, expected = "tools.gate_url", "https://HOST/FOLDER, in which {version} may stand"
        raise UsageError(f"got {template!r}", where=where, expected=expected)
    return url


def _trusted_root(given: Path | None) -> bytes:
    """Return the trusted root: a file's, or the public Sigstore's as the sigstore package ships it; no network."""
    shipped = resources.files("sigstore") / "_store" / quote(_SIGSTORE, safe="") / "trusted_root.json"
    try:
        with given.open("rb") if given else shipped.open("rb") as file:
            content = file.read(_ROOT_LIMIT + 1)
    except OSError as err:
        where, expected = f"tools.trusted_root: {given or shipped}", "a trusted root of a Sigstore"
        raise UsageError(f"cannot be read: {err.strerror}", where=where, expected=expected) from err
    if len(content) > _ROOT_LIMIT:
        raise UsageError(f"is over {_ROOT_LIMIT >> 20} MiB", where=f"tools.trusted_root: {given}")
    return content
