"""Images that are not of this project's programs alone: of a Containerfile, or of an OCI layout that is there.

Either way a layout comes out that has been looked at: each blob is what its digest says, and the platforms are those
of the project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.oci import descriptor
from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_INDEX, Descriptor, encode, read_descriptors, read_object
from countersign.oci.errors import Malformed
from countersign.tools.resolver import tool

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.model import Image, Project
    from release.packages import Shelf

_KEPT = (
    *(
        "PATH",
        "HOME",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF", "LD_LIBRARY_PATH"),
)
_SECONDS = 1800
_DEPTH = 4  # indexes in indexes
_TOLD = 400  # characters of what buildah says


def program(settings: Settings, project: Project) -> Path | None:
    """Return buildah, where an image of the project needs it.

    Raises:
        MissingError: it does, and there is none that serves.
    """
    needs = [image.name for image in project.images if image.containerfile]
    if not needs:
        return None
    try:
        return tool("buildah", settings)
    except MissingError as err:
        do = f"{err.do}; or build the image with what you have, and name its OCI layout: layout: PATH"
        where = ": ".join(filter(None, [f"image {needs[0]}", err.where]))
        raise MissingError(err.found, where=where, expected=err.expected, do=do) from err


def build(
    buildah: Path, shelf: Shelf, image: Image, labels: Mapping[str, str], into: Path
) -> tuple[str, Mapping[str, str]]:
    """Build a Containerfile of the commit, once a platform; return what `take` does.

    The context is the commit's own files; the project's programs for the platform are the build context ``programs``
    (``COPY --from=programs app /app``), and the version is the build argument VERSION.

    Raises:
        InfrastructureError: it does not build.
    """
    with tempfile.TemporaryDirectory(prefix=".buildah-", dir=into.parent) as scratch:
        store = [str(buildah), "--root", f"{scratch}/root", "--runroot", f"{scratch}/run", "--storage-driver", "vfs"]
        gathered = Path(scratch, "layout")
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        for platform, programs in shelf.programs.items():
            beside = Path(scratch, platform.replace("/", "-"))
            beside.mkdir()
            for name, path in programs.items():
                shutil.copy(path, beside / name)
            # The history has hashes over the owners' names as this machine's name service tells them, and a label the
            # version of buildah: neither is anything of the image, and both would differ between machines.
            argv = [
                *store, "build", "--omit-history", "--identity-label=false",
                "--isolation", "chroot", "--format", "oci", "--timestamp", str(shelf.commit.epoch),
                "--platform", platform, "--build-context", f"programs={beside}",
                "--build-arg", f"VERSION={shelf.version}", *words, "--tag", f"localhost/{platform}",
                "--file", str(shelf.source / image.containerfile), str(shelf.source / image.context),
            ]  # fmt: skip
            _run(argv, image.name)
            _run([*store, "push", f"localhost/{platform}", f"oci:{gathered}:{platform.replace('/', '-')}"], image.name)
        try:
            return take(gathered, shelf.project, into)
        finally:
            shutil.rmtree(Path(scratch, "root"), ignore_errors=True)


def take(layout: Path, project: Project, into: Path) -> tuple[str, Mapping[str, str]]:
    """Copy the image of an OCI layout, looking at each blob; return its index's digest and platform → manifest.

    A layout that lists manifests in place of an index gets an index of them.

    Raises:
        UsageError: it is no layout, lacks a blob or has another one, or is for other platforms than the project's.
    """
    try:
        listed = read_descriptors(read_object(_file(layout, "index.json"), str(layout)), "manifests", str(layout))
        if len(listed) == 1 and listed[0].is_index:
            top, content = listed[0], _blob(layout, listed[0])
            inside = read_descriptors(read_object(content, top.digest), "manifests", top.digest)
        else:
            inside = [_named(layout, each) for each in sorted(listed, key=lambda each: each.digest)]
            inside = sorted(inside, key=lambda each: _platform(each.platform))
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [each.as_json() for each in inside]}
            content = encode(index)
            top = descriptor.of(content, OCI_INDEX)
        found = {_platform(each.platform): each.digest for each in inside if each.platform.get("os") != "unknown"}
        if sorted(found) != sorted(project.platforms) or len(found) < len(inside) - _unknown(inside):
            raise UsageError(
                f"is for {', '.join(sorted(found)) or 'no platform'}", where=str(layout),
                expected=f"each of {', '.join(sorted(project.platforms))} once, as release.yaml has it",
            )  # fmt: skip
        _put(into, top.digest, content)
        for each in inside:
            _copy(layout, each, into, 0)
    except Malformed as err:
        raise UsageError(f"is no OCI layout: {err}", where=str(layout)) from err
    (into / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    (into / "index.json").write_bytes(
        encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [top.as_json()]})
    )
    return top.digest, found


def _run(argv: Sequence[str], name: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key in _KEPT}
    try:
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as err:
        raise InfrastructureError(f"buildah did not end in {_SECONDS} s", where=f"image {name}") from err
    if ended.returncode:
        said = " ".join(ended.stderr.split())[-_TOLD:]
        raise InfrastructureError(f"buildah failed with {ended.returncode}: {said}", where=f"image {name}")


def _unknown(inside: Sequence[Descriptor]) -> int:
    return sum(each.platform.get("os") == "unknown" for each in inside)


def _platform(platform: Mapping[str, object]) -> str:
    return f"{platform.get('os', '')}/{platform.get('architecture', '')}"


def _named(layout: Path, manifest: Descriptor) -> Descriptor:
    """Return a manifest's descriptor as an index has it: with its platform, and without what named it here."""
    platform = dict(manifest.platform)
    if not platform:
        document = read_object(_blob(layout, manifest), manifest.digest)
        config = read_object(_blob(layout, descriptor.from_json(document.get("config"), manifest.digest)), "config")
        platform = {"architecture": config.get("architecture", ""), "os": config.get("os", "")}
    return Descriptor(manifest.media_type, manifest.digest, manifest.size, platform=platform)


def _copy(layout: Path, what: Descriptor, into: Path, depth: int) -> None:
    """Copy a manifest or index with all that it names."""
    content = _blob(layout, what)
    _put(into, what.digest, content)
    for child in _children(content, what, depth):
        if child.is_index or child.media_type in descriptor.MANIFEST_TYPES:
            _copy(layout, child, into, depth + 1)
        else:
            _stream(layout, child, into)


def _children(content: bytes, what: Descriptor, depth: int) -> Iterator[Descriptor]:
    if depth == _DEPTH:
        raise Malformed("indexes nested too deep", where=what.digest)
    document = read_object(content, what.digest)
    if what.is_index:
        yield from read_descriptors(document, "manifests", what.digest)
        return
    yield descriptor.from_json(document.get("config"), f"{what.digest}: config")
    yield from read_descriptors(document, "layers", what.digest)


def _stream(layout: Path, what: Descriptor, into: Path) -> None:
    path = _path(layout, what)
    with path.open("rb") as file:
        if digests.of_file(file) != what.digest or path.stat().st_size != what.size:
            raise UsageError("the content is not that of its name", where=str(path))
    target = into / "blobs" / what.digest.replace(":", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _blob(layout: Path, what: Descriptor) -> bytes:
    """Return a manifest, index or config, checked against its digest."""
    path = _path(layout, what)
    if path.stat().st_size > descriptor.MANIFEST_LIMIT:
        raise UsageError("is over 4 MiB", where=str(path))
    content = path.read_bytes()
    if not digests.matches(what.digest, content) or len(content) != what.size:
        raise UsageError("the content is not that of its name", where=str(path))
    return content


def _path(layout: Path, what: Descriptor) -> Path:
    path = layout / "blobs" / what.digest.replace(":", "/")
    if not path.is_file() or path.is_symlink():
        raise UsageError("the layout lacks this blob", where=str(path))
    return path


def _file(layout: Path, name: str) -> bytes:
    try:
        with (layout / name).open("rb") as file:
            return file.read(descriptor.MANIFEST_LIMIT)
    except OSError as err:
        raise UsageError(f"is no OCI layout: {name}: {err.strerror}", where=str(layout)) from err


def _put(into: Path, digest: str, content: bytes) -> None:
    target = into / "blobs" / digest.replace(":", "/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
