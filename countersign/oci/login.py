"""One login: an entry of ``auths`` in a Docker config.json, or what a credential helper gives.

What is taken is what docker, cosign and containers/image take between them, and what the gate takes
(``gate/internal/registry/login.go``): the same file gives the same login on client and node.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from countersign.oci.errors import RegistryAuth

_FIELDS = ("auth", "username", "password", "identitytoken", "registrytoken")
_TOKEN_RE = re.compile(r"[!-~]+")  # what a header may carry
_MEND = "log in again, or fix the entry; other registries are not concerned"


@dataclass(frozen=True)
class Login:
    """Whom to be at a registry. Without a secret of any kind it is empty.

    Attributes:
        where: the file and the entry it is from, for messages.
        refresh: an identity token, which a token server takes instead of a password.
        bearer: a token that the registry itself takes.
        problem: why the entry cannot be used; tells no secret.
    """

    where: str
    user: str = ""
    password: str = field(default="", repr=False)
    refresh: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    problem: str = ""

    @property
    def empty(self) -> bool:
        """Whether the entry holds no login, and nothing that was meant for one."""
        return not (self.password or self.refresh or self.bearer or self.problem)

    def basic(self) -> str:
        """Return what follows "Basic " (RFC 7617)."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def usable(self) -> Login:
        """Return the login itself.

        Raises:
            RegistryAuth: if its entry cannot be used.
        """
        if self.problem:
            raise RegistryAuth(self.problem, where=self.where, expected="auth, or username and password", do=_MEND)
        return self


def read(entry: object, where: str) -> Login:
    """Read one entry of ``auths``; one that cannot be used is a login with a ``problem``.

    Args:
        entry: the entry's JSON value.
        where: the file and the entry's name.
    """
    values = {} if entry is None else entry
    if not isinstance(values, dict):
        return Login(where, problem="is not an object")
    texts = {name: values.get(name) or "" for name in _FIELDS}
    if not all(isinstance(text, str) and _is_text(text) for text in texts.values()):
        return Login(where, problem="is not an object of strings")
    user, password = texts["username"], texts["password"]
    refresh, bearer = texts["identitytoken"], texts["registrytoken"]
    if bearer and not _TOKEN_RE.fullmatch(bearer):
        return Login(where, problem="registrytoken is not a token")
    if auth := texts["auth"].strip():
        pair = _decoded(auth)
        if pair is None and not (refresh or bearer):
            return Login(where, problem="auth is not base64 of user:password")
        user, password = pair or ("", "")
    if refresh:
        user, password = "", ""
    return Login(where, user, password, refresh, bearer)


def _decoded(auth: str) -> tuple[str, str] | None:
    """Read base64 of user:password, in either alphabet, padded or not, line ends in it or not."""
    bare = auth.replace("\r", "").replace("\n", "").rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        text = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode()
    except (binascii.Error, ValueError):  # UnicodeDecodeError is one
        return None
    user, colon, password = text.partition(":")
    return (user, password.strip("\x00")) if colon and user else None


def _is_text(text: str) -> bool:
    """Say whether UTF-8 has this; JSON can name lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
