"""Where to look for images: what a user names, as references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.errors import UsageError
from countersign.oci.errors import NotFound
from countersign.oci.reference import Reference, parse
from countersign.oci.registry import Registry
from countersign.oci.tags import repositories, tags_and_digests

_LIST_LIMIT = 4 << 20  # bytes


@dataclass(frozen=True)
class Image:
    """One image to look at.

    Attributes:
        named: the user wrote this very digest; what a registry lists is only found.
    """

    ref: Reference
    named: bool = False

    @property
    def stale(self) -> bool:
        """Whether only a tag of what hangs on it tells of it: it may be there no more, or be part of another."""
        return self.ref.digest is not None and not self.named


def images(registry: Registry, names: Sequence[str]) -> list[Image]:
    """Return the images that names mean, each once: those named by digest, then the others, in the order given.

    Args:
        names: NAME:TAG or NAME@DIGEST; NAME alone for all of a repository; HOST/ for a registry's whole catalog; @FILE.

    Raises:
        UsageError: a name or a file cannot be used.
        RegistryError: a list cannot be had.
    """
    found: dict[Reference, Image] = {}
    for one in sorted((one for name in _flat(names) for one in _of(registry, name)), key=lambda one: not one.named):
        found.setdefault(one.ref, one)
    return list(found.values())


def whole(names: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the repositories, and the registries, that names mean as a whole."""
    every = list(_flat(names))
    hosts = frozenset(name.rstrip("/") for name in every if name.endswith("/"))
    alone = (parse(name).name for name in every if not name.endswith("/") and not _is_image(name))
    return frozenset(alone), hosts


def _flat(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not name.startswith("@"):
            yield name
            continue
        path = Path(name[1:]).expanduser()
        try:
            with path.open("rb") as file:
                content = file.read(_LIST_LIMIT + 1)
            lines = content.decode().splitlines()
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error
        except UnicodeDecodeError as error:
            raise UsageError("is not text", where=str(path), expected="one name a line") from error
        if len(content) > _LIST_LIMIT:
            raise UsageError("is too long", where=str(path), expected=f"at most {_LIST_LIMIT} bytes")
        found = [line for raw in lines if (line := raw.partition("#")[0].strip())]
        if not found:
            raise UsageError("names nothing", where=str(path), expected="one name a line")
        yield from found


def _of(registry: Registry, name: str) -> Iterator[Image]:
    if name.endswith("/"):
        host = name.rstrip("/")
        if not host or "/" in host:
            raise UsageError("is not a registry", where=name, expected="HOST/ or HOST:PORT/")
        try:
            found = repositories(registry, host)
        except NotFound as error:
            raise NotFound("has no catalog", where=host, do="name its repositories, or @FILE with a list") from error
        for each in found:
            yield from _of_repository(registry, each)
    elif _is_image(name):
        ref = parse(name)
        yield Image(ref, named=ref.digest is not None)
    else:
        yield from _of_repository(registry, parse(name).name)


def _of_repository(registry: Registry, name: str) -> Iterator[Image]:
    tags, digests = tags_and_digests(registry, name)
    yield from (Image(parse(f"{name}:{tag}")) for tag in tags)
    yield from (Image(parse(f"{name}@{digest}")) for digest in digests)


def _is_image(name: str) -> bool:
    return "@" in name or ":" in name.rpartition("/")[2]
