"""A key pair as files: ``PREFIX.key`` (sealed, 0600) and ``PREFIX.pub``, as cosign writes them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from countersign.console.errors import UsageError
from countersign.keys.pair import PrivateKey

_NOT_IGNORED = 1  # git check-ignore's exit code inside a work tree; 128 outside


def write(prefix: Path, key: PrivateKey, password: bytes, *, force: bool = False) -> tuple[Path, Path]:
    """Write a key pair.

    Args:
        prefix: path without ending; its folder is made, for the owner alone, if it is missing.
        password: what seals it.

    Returns:
        the private and the public file.

    Raises:
        UsageError: if one of them is there, or cannot be written.
    """
    private, public = files(prefix)
    if not force:
        check_free(prefix)
    try:
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(private, key.sealed(password), 0o600, force=force)
        _write(public, key.public.pem, 0o644, force=force)
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=str(prefix)) from err
    return private, public


def check_free(prefix: Path) -> None:
    """Raise ``UsageError`` if one of the files is there: asked before a person types a password twice."""
    for path in files(prefix):
        if path.exists() or path.is_symlink():
            raise _exists(path)


def check_uncommitted(prefix: Path) -> None:
    """Raise ``UsageError`` if git would take a private key for a file to commit.

    Where git is not installed, or the folder is in no work tree, nothing can be committed by mistake.
    """
    private, _ = files(prefix.absolute())
    folder = next(parent for parent in private.parents if parent.is_dir())
    try:
        argv = ["git", "-C", str(folder), "check-ignore", "--quiet", "--", str(private)]
        found = subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return
    if found == _NOT_IGNORED:
        do = "choose another --out, or name it in .gitignore first"
        raise UsageError("a private key would lie in a git work tree, not ignored", where=str(private), do=do)


def files(prefix: Path) -> tuple[Path, Path]:
    """Return the private and the public file of a prefix."""
    return prefix.with_name(prefix.name + ".key"), prefix.with_name(prefix.name + ".pub")


def _write(path: Path, text: str, mode: int, *, force: bool) -> None:
    """Put a whole file in place at once; without ``force`` only where there is none."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(handle, mode)
            file.write(text)
            file.flush()
            os.fsync(handle)
        if force:
            os.replace(name, path)  # noqa: PTH105  mkstemp gives a string
        else:
            _link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _link(name: str, path: Path) -> None:
    """Give a file its name, unless someone else took it just now."""
    try:
        os.link(name, path)
    except FileExistsError as err:
        raise _exists(path) from err


def _exists(path: Path) -> UsageError:
    return UsageError("there is a key already", where=str(path), do="choose another --out, or replace it with --force")
