"""Credential helpers: programs of this machine that keep logins (Docker's "Credential helper protocol").

``docker-credential-NAME get`` reads a server's name and writes ``{"Username": …, "Secret": …}``. It gets as long, and
may say as much, as a login takes and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from typing import IO, cast

from countersign.oci import login
from countersign.oci.errors import RegistryAuth
from countersign.oci.login import Login

_SECONDS = 10
_LIMIT = 64 << 10  # bytes of what it says
_NAME_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HAS_NONE = "credentials not found"
_IS_TOKEN = "<token>"  # noqa: S105  the user's name that says that the secret is an identity token


def get(helper: str, server: str, where: str) -> Login | None:
    """Return what a helper keeps for a server; None if it has nothing.

    Args:
        helper: its name, as in ``credHelpers`` or ``credsStore``.
        server: the name that it knows the server by.
        where: the file that names the helper.

    Raises:
        RegistryAuth: if the name is none, or the helper is not there or fails.
    """
    if not _NAME_RE.fullmatch(helper):
        raise RegistryAuth(f"{helper[:70]!r} is not a credential helper's name", where=where)
    program = f"docker-credential-{helper}"
    path = shutil.which(program)
    if path is None:
        raise RegistryAuth(f"{program} is not on PATH", where=where, do="install it, or log in without it")
    try:
        status, out, err = _run([path, "get"], server.encode())
    except TimeoutError as error:
        raise RegistryAuth(f"{program} failed: {error}", where=where) from error
    except OSError as error:
        raise RegistryAuth(f"{program} cannot be run: {error.strerror}", where=where) from error
    if status != 0:
        said = (out.strip() or err.strip()).decode(errors="replace")
        if _HAS_NONE in said:
            return None
        raise RegistryAuth(f"{program} failed: {said[:200] or f'exit status {status}'}", where=where)
    return _read(out, f"{where}: {program} for {server}", program)


def _read(out: bytes, where: str, program: str) -> Login | None:
    try:
        answer = json.loads(out)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RegistryAuth(f"{program} answered no Username and Secret", where=where) from error
    kind = {"identitytoken": secret} if user == _IS_TOKEN else {"username": user, "password": secret}
    found = login.read(kind, where).usable()
    return None if found.empty else found


def _run(argv: list[str], text: bytes) -> tuple[int, bytes, bytes]:
    """Run a program on a few bytes; return its status, stdout and stderr.

    Raises:
        TimeoutError: it did not end in time, or said too much.
        OSError: it cannot be run.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        try:
            with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as asked:
                asked.write(text)
            out, err = _said(*(cast("IO[bytes]", stream) for stream in (process.stdout, process.stderr)))
            return process.wait(_SECONDS), out, err
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):  # with what it has started
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"it did not end in {_SECONDS} s") from error
            raise


def _said(*streams: IO[bytes]) -> list[bytes]:
    """Read streams to their ends at once, within the bounds."""
    said = {stream.fileno(): b"" for stream in streams}
    end = time.monotonic() + _SECONDS
    with selectors.DefaultSelector() as waiting:
        for number in said:
            waiting.register(number, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no whole answer in {_SECONDS} s")
            for key, _ in ready:
                chunk = os.read(key.fd, _LIMIT)
                if not chunk:
                    waiting.unregister(key.fd)
                said[key.fd] += chunk
                if len(said[key.fd]) > _LIMIT:
                    raise TimeoutError(f"it said more than {_LIMIT} bytes")
    return list(said.values())
