"""A policy.yaml with another text: valid before it is put in place, never half-written, its difference shown."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from countersign.console.errors import CountersignError
from countersign.keys.pair import PublicKey, load_public
from countersign.policy.load import load
from countersign.policy.model import Policy


def check(path: Path, text: str) -> Policy:
    """Return the policy that a text would be in a file's place; the file stays as it is.

    Raises:
        PolicyInvalid: it would not be valid.
    """
    return _written(path, text, keep=False)


def replace(path: Path, text: str) -> Policy:
    """Put a text in a policy's place at once, if it is valid; the old one stays otherwise.

    Raises:
        PolicyInvalid: it would not be valid.
    """
    return _written(path, text, keep=True)


def difference(path: Path, before: str, after: str) -> list[str]:
    """Return two texts of a policy as the lines of a unified diff; none where they are equal."""
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), f"{path} (amended)", "", "", 1, "")
    return list(found)


def _written(path: Path, text: str, *, keep: bool) -> Policy:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, path.stat().st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(handle)
        found = load(Path(name))
        if keep:
            os.replace(name, path)  # noqa: PTH105  mkstemp gives a string
        return found
    finally:
        Path(name).unlink(missing_ok=True)


def today() -> str:
    """Return the day, as a policy says since when a key is in use."""
    return datetime.now(UTC).date().isoformat()


def is_key(policy: Path, file: str, key: PublicKey) -> bool:
    """Say whether a file that a policy names has this very key."""
    try:
        return load_public(policy.parent / file).fingerprint == key.fingerprint
    except CountersignError:
        return False  # load() has said so, or will


@contextmanager
def key_file(policy: Path, option: str, key: PublicKey, *, keep: bool) -> Iterator[str]:
    """Give the file of a public key as a policy names it: the one beside the private key, else one that is written.

    Args:
        policy: the policy, in whose folder the file has to lie.
        option: where the private key is kept, as the user named it.
        keep: whether a file that is written stays.
    """
    beside = Path(option).expanduser().with_suffix(".pub")
    folder = policy.parent.resolve()
    if "://" not in option and beside.is_file() and beside.resolve().is_relative_to(folder):
        name = str(beside.resolve().relative_to(folder))
        if is_key(policy, name, key):
            yield name
            return
    short = key.fingerprint.removeprefix("sha256:")[:12]
    file = folder / f"key-{short}.pub"
    new = not file.exists()
    if new:
        file.write_text(key.pem, encoding="ascii")
    try:
        yield file.name
    finally:
        if new and not keep:
            file.unlink(missing_ok=True)
