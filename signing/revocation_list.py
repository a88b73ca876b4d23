"""Lists of what is trusted no more, amended and signed; a list on disk is whole, and so is its signature."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from countersign.console import whole
from countersign.console.errors import UsageError
from countersign.keys.pair import PrivateKey
from countersign.policy import revocations
from countersign.policy.certificates import BadFile
from signing.amended import difference


@dataclass(frozen=True)
class Amended:
    """A list as it is to be.

    Attributes:
        before: what lies there; empty for nothing.
        content: what is to lie there.
        difference: from what lies there, as lines of a diff; none where it stays as it is.
    """

    before: bytes
    content: bytes
    serial: int
    difference: tuple[str, ...]


def amended(path: Path, additions: Mapping[str, Sequence[str]]) -> Amended:
    """Return a list with more entries and the next serial; a list that has them all stays as it is.

    Args:
        path: of the list; one that is not there begins with serial 1, under the file's name.
        additions: "keys", "certificates", "digests" → fingerprints or digests.

    Raises:
        UsageError: what lies there is not such a list, or what it would be is none.
    """
    before = _there(path)
    try:
        there: dict[str, Any] = revocations.parse(before, path) if before else {"name": path.stem, "serial": 0}
        wanted = {
            part: [*there.get(part, ()), *(each for each in dict.fromkeys(found) if each not in there.get(part, ()))]
            for part, found in additions.items()
        }
        if before and all(wanted[part] == there[part] for part in wanted):
            return Amended(before, before, there["serial"], ())
        if not any(wanted.values()):
            raise UsageError("there is no such list, and nothing to put into one", where=str(path), do="see --help")
        head = {"version": revocations.VERSION, "name": there["name"], "serial": there["serial"] + 1}
        document = {**head, "issued": datetime.now(UTC).date().isoformat(), **wanted}
        content = (json.dumps(document, indent=2) + "\n").encode()
        revocations.parse(content, path)
    except BadFile as err:
        raise UsageError(str(err)) from err
    return Amended(before, content, document["serial"], tuple(difference(path, before.decode(), content.decode())))


def write(path: Path, wanted: Amended, signer: PrivateKey) -> bool:
    """Put a list and its signature in place; return whether anything was to be done.

    Where the list stays as it is, so do the signatures beside it; one with other content has the new one alone.

    Raises:
        UsageError: the files cannot be read or written, or entries are added to what this key has not signed.
    """
    beside = path.with_name(path.name + revocations.SIGNATURES)
    try:
        signatures = revocations.signatures_beside(path)
        if not wanted.difference and revocations.signed_by(signer.public, wanted.content, signatures):
            return False
        if wanted.difference and wanted.before and not revocations.signed_by(signer.public, wanted.before, signatures):
            raise UsageError(
                "the list that lies there is not signed by this key, and would be by what is added to it",
                where=str(path),
                do="look at what it says; then sign that alone, without --key, --certificate and --digest",
            )
        own = b64encode(signer.sign(wanted.content)).decode()
        whole.write(beside, "".join(f"{line}\n" for line in (own, *signatures)[: revocations.MAX_LINES]).encode())
        if wanted.difference:  # the list has its own signature at every moment
            whole.write(path, wanted.content)
            whole.write(beside, f"{own}\n".encode())
    except BadFile as err:
        raise UsageError(str(err)) from err
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=str(path), do="name another file") from err
    return True


def _there(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(revocations.MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as err:
        raise UsageError(f"cannot be read: {err.strerror}", where=str(path), do="name another file") from err
    if len(content) > revocations.MAX_BYTES:
        raise UsageError(f"more than {revocations.MAX_BYTES} bytes", where=str(path), do="name another file")
    return content
