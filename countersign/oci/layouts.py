"""Image layouts with what hangs on their images, as places that images are copied from and to.

``index.json`` names images (annotation ``org.opencontainers.image.ref.name``), what lies under the tags of attachments,
and referrers without a name, as oras writes them. Referrers that it does not list are found among the blobs (``cosign
save`` leaves bundles out), and what cosign calls "sigs" and "atts" is what lies under those tags.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from countersign.console.errors import UsageError
from countersign.oci import descriptor
from countersign.oci import digest as digests
from countersign.oci.descriptor import MANIFEST_LIMIT, OCI_INDEX, Descriptor
from countersign.oci.errors import Malformed, NotFound, Tampered
from countersign.oci.files import Files, Folder
from countersign.oci.tagged import Found

_REF_NAME = "org.opencontainers.image.ref.name"
_KIND = "kind"
_COSIGN = {".sig": "dev.cosignproject.cosign/sigs", ".att": "dev.cosignproject.cosign/atts"}
_COSIGN_IMAGES = frozenset({"dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"})
_REFERRER_LIMIT = 128 << 10  # bytes of a manifest that index.json does not name
_MAX_LISTED = 4096


class Layout:
    """An image layout to copy from.

    Raises:
        UsageError: it is not a layout.
    """

    name = ""

    def __init__(self, files: Files) -> None:
        self._files = files
        if files.size("index.json") is None:
            raise UsageError("is not an image layout: it has no index.json", where=files.where)
        index = descriptor.read_object(self._read("index.json", MANIFEST_LIMIT), f"{files.where}: index.json")
        self._listed = descriptor.read_descriptors(index, "manifests", f"{files.where}: index.json")
        if len(self._listed) > _MAX_LISTED:
            raise UsageError(f"{len(self._listed)} entries", where=files.where, expected=f"at most {_MAX_LISTED}")
        self._subjects: Mapping[str, list[Descriptor]] | None = None

    @property
    def where(self) -> str:
        """What it is called in messages."""
        return self._files.where

    def manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """Return a manifest or index by tag or digest; "" means the only image that there is.

        Raises:
            NotFound: if there is none.
            UsageError: if it is not clear which.
            Tampered: if the bytes are not those of the digest.
        """
        digest = reference if digests.valid(reference) else self._tagged(reference)
        content = self._read(_blob(digest), MANIFEST_LIMIT)
        if not digests.matches(digest, content):
            raise Tampered(f"the bytes are {digests.of(content)}", where=f"{self.where}: {digest}", expected=digest)
        document = descriptor.read_object(content, f"{self.where}: {digest}")
        media_type = document.get("mediaType") or self._media_type(digest, document)
        if not isinstance(media_type, str):
            raise Malformed("the mediaType is not a string", where=f"{self.where}: {digest}")
        return content, Descriptor(media_type, digest, len(content))

    def manifest_or_none(self, reference: str) -> Found:
        """Return ``manifest``, or None if there is none."""
        try:
            return self.manifest(reference)
        except NotFound:
            return None

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return what refers to ``digest``, whether index.json lists it or not."""
        if self._subjects is None:
            self._subjects = self._scan()
        return list(self._subjects.get(digest, ()))

    def fetch(self, what: Descriptor, into: BinaryIO) -> None:
        """Write a blob into a file, checked against its descriptor.

        Raises:
            NotFound, Tampered: it is not there, or has other bytes.
        """
        size = self._files.size(_blob(what.digest))
        where = f"{self.where}: {what.digest}"
        if size is None:
            raise NotFound("the layout lacks this blob", where=where)
        if size != what.size:
            raise Tampered(f"{size} bytes", where=where, expected=f"{what.size}")
        into.seek(0)
        into.truncate()
        into.writelines(self._files.chunks(_blob(what.digest)))
        if (found := digests.of_file(into)) != what.digest:
            raise Tampered(f"the bytes are {found}", where=where, expected=what.digest)

    def _read(self, name: str, limit: int) -> bytes:
        size = self._files.size(name)
        if size is None:
            raise NotFound("the layout lacks this file", where=f"{self.where}: {name}")
        if size > limit:
            raise Malformed(f"{size} bytes", where=f"{self.where}: {name}", expected=f"at most {limit}")
        return b"".join(self._files.chunks(name))

    def _tagged(self, tag: str) -> str:
        named = {one.digest for one in self._listed if tag and _is_called(one, tag)} or self._of_cosign(tag)
        if not named and tag.startswith("sha256-"):
            raise NotFound(f"nothing is called {tag}", where=self.where)
        named = named or ({one.digest for one in self._listed if self._is_image(one)} if not tag else set())
        if len(named) == 1:
            return named.pop()
        if tag and not named:
            called = [one.annotations[_REF_NAME] for one in self._listed if _REF_NAME in one.annotations]
            raise NotFound(f"no image is called {tag!r}", where=self.where, expected=", ".join(called[:20]))
        do = "name one: oci:DIR:TAG" if not tag else ""
        raise UsageError(f"{len(named)} images called {tag!r}", where=self.where, expected="one", do=do)

    def _of_cosign(self, tag: str) -> set[str]:
        """Return what cosign save calls the signatures or attestations of its image."""
        of, dot, suffix = tag.partition(".")
        images = {one.digest for one in self._listed if one.annotations.get(_KIND) in _COSIGN_IMAGES}
        if of not in {digests.tag(digest) for digest in images} or dot + suffix not in _COSIGN:
            return set()
        return {one.digest for one in self._listed if one.annotations.get(_KIND) == _COSIGN[dot + suffix]}

    def _is_image(self, entry: Descriptor) -> bool:
        called = entry.annotations.get(_REF_NAME, "")
        if "sha256-" in called or entry.annotations.get(_KIND) in _COSIGN.values():
            return False
        found = self.manifest_or_none(entry.digest)
        return found is not None and _subject(found[0]) is None

    def _media_type(self, digest: str, document: Mapping[str, Any]) -> str:
        listed = next((one.media_type for one in self._listed if one.digest == digest), "")
        return listed or (OCI_INDEX if "manifests" in document else descriptor.OCI_MANIFEST)

    def _scan(self) -> dict[str, list[Descriptor]]:
        listed = {_blob(one.digest) for one in self._listed}
        found: dict[str, list[Descriptor]] = {}
        there = self._files.sizes()
        for missing in sorted(listed - there.keys()):  # it could be a signature, and nobody else names it
            raise NotFound("index.json names it, and it is not there", where=f"{self.where}: {missing}")
        for name, size in sorted(there.items()):
            digest = "sha256:" + name.rpartition("/")[2]
            limit = MANIFEST_LIMIT if name in listed else _REFERRER_LIMIT
            if size > limit or not digests.valid(digest):
                continue
            content = self._read(name, limit)
            subject = _subject(content) if b'"subject"' in content else None
            if subject is not None and digests.matches(digest, content):
                document = descriptor.read_object(content, f"{self.where}: {digest}")
                media_type = document.get("mediaType") or self._media_type(digest, document)
                kind = descriptor.artifact_type(document)
                notes = descriptor.read_annotations(document, f"{self.where}: {digest}")
                found.setdefault(subject, []).append(Descriptor(str(media_type), digest, len(content), kind, notes))
        return found


class NewLayout(Layout):
    """A layout in a folder, to copy to; made if it is not there. What it has stays, and ``index.json`` comes last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not (folder / "index.json").exists():
            _place(folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _place(folder / "index.json", descriptor.encode(_index([])))
        self._lock = threading.Lock()
        super().__init__(Folder(folder))

    def has(self, digest: str) -> bool:
        """Say whether a blob is there."""
        return self._files.size(_blob(digest)) is not None

    def mount(self, _what: Descriptor, _source: object) -> bool:
        """Say that there is no other repository to take a blob from."""
        return False

    def put(self, what: Descriptor, content: BinaryIO) -> None:
        """Store a blob, whole or not at all."""
        content.seek(0)
        _place(self.folder / _blob(what.digest), content)

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest or index; under a tag it is named in index.json."""
        what = descriptor.of(content, media_type)
        if not self.has(what.digest):
            _place(self.folder / _blob(what.digest), content)
        if not digests.valid(reference):
            self._list([Descriptor(media_type, what.digest, what.size, annotations={_REF_NAME: reference})])

    def show_referrers(self, _digest: str, entries: Sequence[Descriptor]) -> None:
        """Name referrers in index.json, where oras looks for them; each says itself of what it is one."""
        self._list(entries)

    def _list(self, entries: Sequence[Descriptor]) -> None:
        with self._lock:
            names = {one.annotations[_REF_NAME] for one in entries if _REF_NAME in one.annotations}
            bare = {one.digest for one in entries if _REF_NAME not in one.annotations}
            kept = [
                one
                for one in self._listed
                if (one.annotations[_REF_NAME] not in names if _REF_NAME in one.annotations else one.digest not in bare)
            ]
            self._listed = [*kept, *entries]
            self._subjects = None
            _place(self.folder / "index.json", descriptor.encode(_index(self._listed)))


def _index(entries: Sequence[Descriptor]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.as_json() for one in entries]}


def _is_called(entry: Descriptor, tag: str) -> bool:
    called = entry.annotations.get(_REF_NAME, "")
    return called == tag or called.endswith(f":{tag}")


def _subject(content: bytes) -> str | None:
    try:
        subject = json.loads(content).get("subject")
    except (ValueError, AttributeError, RecursionError):
        return None
    digest = subject.get("digest") if isinstance(subject, dict) else None
    return digest if isinstance(digest, str) and digests.valid(digest) else None


def _blob(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _place(path: Path, content: bytes | BinaryIO) -> None:
    """Put a whole file in place at once."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            if isinstance(content, bytes):
                file.write(content)
            else:
                while chunk := content.read(1 << 20):
                    file.write(chunk)
        os.replace(name, path)  # noqa: PTH105  mkstemp gives a string
    finally:
        Path(name).unlink(missing_ok=True)
