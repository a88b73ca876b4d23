"""Names in release.yaml that registries and packagers have to take, held against that before anything is built."""

from __future__ import annotations

import re

from countersign.oci import reference

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]{1,63}")
"""A name that both Debian and RPM take (Debian Policy 5.6.1)."""
_LINE = re.compile(r"[^\x00-\x1f\x7f]+")
_PORT = re.compile(r"[^/]+:([0-9]{1,9})(?:/.*)?")
_LAST_PORT = 65535


def wrong_registry(text: str) -> str:
    """Return why images cannot be named below this; empty if they can. A login that is in it is not repeated."""
    base = text.rstrip("/")
    shown = text if "@" not in text else f"…@{text.rpartition('@')[2]}"
    try:
        found = reference.parse(f"{base}/x:1")
    except reference.BadReference:
        return f"got {shown!r}; expected HOST/PATH, with no scheme, login, tag or digest"
    if found.name != f"{base}/x":
        return f"got {text!r}; expected HOST/PATH, such as {found.name.removesuffix('/x')}"
    port = _PORT.fullmatch(base)
    if port and not 0 < int(port[1]) <= _LAST_PORT:
        return f"got port {port[1]}; expected 1 to {_LAST_PORT}"
    return ""


def wrong_image(name: str) -> str:
    """Return why no image can be called so (distribution specification, "Pulling manifests"); empty if one can."""
    try:
        reference.parse(f"registry.example/{name}:1")
    except reference.BadReference:
        return f"got {name!r}; expected a name that a registry takes, such as app or web-ui"
    return ""


def wrong_package(name: str) -> str:
    """Return why no package can be called so; empty if one can."""
    return "" if _PACKAGE.fullmatch(name) else f"got {name!r}; expected lower-case letters, digits, '.', '+' and '-'"


def wrong_line(text: str) -> str:
    """Return why this cannot stand in one line of a package's control file; empty if it can."""
    return "" if _LINE.fullmatch(text) else f"got {text!r}; expected one line"
