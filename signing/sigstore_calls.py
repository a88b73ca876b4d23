"""Calls of the sigstore library: they end, and what goes wrong in them is one line."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from countersign.console.errors import InfrastructureError

Result = TypeVar("Result")

_SHOWN = 600  # characters of what others say


@contextmanager
def failing(where: str, do: str = "") -> Iterator[None]:
    """Turn what the library raises into one line.

    Raises:
        InfrastructureError: in place of the library's own.
    """
    import requests
    from sigstore._internal.fulcio.client import ExpiredCertificate, FulcioClientError
    from sigstore._internal.rekor import RekorClientError
    from sigstore.errors import Error
    from sigstore.oidc import ExpiredIdentity, IssuerError

    # what the library says beside: the same in more words, and a warning for a timestamp that we ask for ourselves
    logging.getLogger("sigstore").setLevel(logging.ERROR)
    logging.getLogger("tuf").setLevel(logging.ERROR)
    try:
        yield
    except (ExpiredIdentity, ExpiredCertificate) as err:
        what = "token" if isinstance(err, ExpiredIdentity) else "certificate"
        raise InfrastructureError(
            f"the {what} has expired meanwhile", where=where, do="sign again with a new token"
        ) from err
    except (
        Error, FulcioClientError, RekorClientError, IssuerError, requests.RequestException, ValueError, KeyError
    ) as err:  # fmt: skip
        raise InfrastructureError(_said(err), where=where, do=do) from err


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what ``work`` gives: the library's requests have no end of their own.

    Raises:
        InfrastructureError: it has not ended in time; it is left alone then, and ends with this process.
    """
    ended: list[Result | BaseException] = []

    def run() -> None:
        try:
            ended.append(work())
        except BaseException as err:  # noqa: BLE001  it is raised where it is waited for
            ended.append(err)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise InfrastructureError(
            f"no answer in {seconds:.0f} s", where="the Sigstore", do="look after it, and sign again"
        )
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _said(error: BaseException) -> str:
    """Return what the outermost error with a text says, and what a service has answered with it."""
    text, answered = "", ""
    seen: BaseException | None = error
    while seen is not None:
        text = text or str(seen).strip()
        response = getattr(seen, "response", None)
        if response is not None and not answered:
            answered = _message(response.text)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    if answered and answered not in text:
        text = f"{text}: {answered}"
    return " ".join((text or type(error).__name__).split())[:_SHOWN]


def _message(answer: str) -> str:
    """Return the member ``message`` of a service's answer; it knows why, and the library drops it."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    message = found.get("message") if isinstance(found, dict) else None
    return message[:_SHOWN] if isinstance(message, str) else ""
