"""A trusted root by TUF (The Update Framework): signed, fresh, and never older than one that was fetched before."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlsplit

from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from countersign.trust.listing import LIMIT

PUBLIC = "https://tuf-repo-cdn.sigstore.dev"
TARGET = "trusted_root.json"


def anchor(url: str, given: Path | None) -> bytes:
    """Return the root metadata that trust in a repository begins with.

    Args:
        given: a file with it; None for that which the sigstore package ships for this URL.

    Raises:
        UsageError: the file cannot be read, or the package ships none.
    """
    if given:
        try:
            with given.open("rb") as file:
                return file.read(LIMIT)
        except OSError as error:
            raise UsageError(str(error.strerror), where=str(given), expected="a root.json of TUF") from error
    shipped = resources.files("sigstore") / "_store" / quote(url, safe="") / "root.json"
    if not shipped.is_file():
        raise UsageError(
            "no trust anchor is known for it",
            where=url,
            do="give its root.json, from a source that you trust: --anchor",
        )
    return shipped.read_bytes()


def fetch(url: str, root: bytes, memory: Path) -> bytes:
    """Fetch ``trusted_root.json``.

    Args:
        root: its root metadata, of any version.
        memory: a folder for what was last seen of it: an older state is refused from then on.

    Raises:
        UsageError: the URL, or the root metadata, cannot be used.
        VerdictError: something in the repository is not signed, or expired, or older than before.
        InfrastructureError: it cannot be reached.
    """
    from tuf.api import exceptions
    from tuf.ngclient.updater import Updater

    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"got {url!r}", where="--url", expected="the URL of a TUF repository")
    kept = memory / quote(url, safe="")
    targets = kept / "targets"
    targets.mkdir(parents=True, exist_ok=True)
    try:
        updater = Updater(str(kept), url, str(targets), f"{url}/targets/", bootstrap=root)
        updater.refresh()
        found = updater.get_targetinfo(TARGET)
        if found is None:
            raise UsageError(f"it has no {TARGET}", where=url, expected="a Sigstore's TUF repository")
        if found.length > LIMIT:
            raise VerdictError(f"{TARGET} has {found.length} bytes", where=url, expected=f"at most {LIMIT}")
        return Path(updater.download_target(found)).read_bytes()
    except (exceptions.RepositoryError, exceptions.DownloadLengthMismatchError) as error:
        raise VerdictError(f"refused: {error}", where=url, do="nothing was changed") from error
    except exceptions.DownloadError as error:
        why = str(error) or str(
            error.__cause__ or type(error).__name__
        )  # it says nothing itself of a host that is down
        raise InfrastructureError(f"cannot be fetched: {why}", where=url, do="try again, or give --file") from error
