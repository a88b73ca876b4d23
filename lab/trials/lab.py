"""The built images of the matrix, their policies, and the archive of those that are imported."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.keys.pair import generate
from countersign.oci import layout as layouts
from countersign.oci.registry import Registry
from lab.trials import model, notaries, signers
from lab.trials.image import TAG, Image
from lab.trials.images import make
from lab.trials.model import HERE, Case, RegistryKind, load
from lab.trials.place import Place

SIGNERS = ("team", "second", "old", "new", "leaver", "stranger")
SIGNED_AUXILIARIES = ("attachment", "bundle", "both")
"""Images that ways use beside the row's own."""
SHORT = "docker.io"
_BUILT = "built.json"
_MAKES = (
    *("matrix.yaml", "marks.py", "image.py", "images.py", "certified.py", "signers.py", "authority.py"),
    *("timestamps.py", "notarial.py", "notaries.py", "lab.py", "policy.yaml.j2", "lax.yaml.j2"),
)
"""Files that say how the images are made."""
IMAGE_NAME = "io.containerd.image.name"


@dataclass(frozen=True)
class Lab:
    """What is on disk and in the registries after ``build``.

    Attributes:
        folder: everything of the matrix on this host.
        hosts: registry kind -> host name in references.
        built: ``host/image name`` -> [repository, index digest, layout folder].
    """

    folder: Path
    hosts: Mapping[RegistryKind, str]
    built: Mapping[str, Sequence[str]]

    @property
    def strict(self) -> Path:
        """The policy that the rows are judged under."""
        return self.folder / "policy.yaml"

    @property
    def lax(self) -> Path:
        """The policy that accepts everything of the lab's registries."""
        return self.folder / "lax.yaml"

    def tagged(self, case: Case) -> str:
        """Return the row's image by its tag."""
        return self.tagged_as(case, case.image)

    def tagged_as(self, case: Case, image: str) -> str:
        """Return another image of the row's registry by its tag."""
        return f"{self._built(case, image)[0]}:{TAG}"

    def reference(self, case: Case) -> str:
        """Return the row's image as its name form writes it; an ID is known only on the node."""
        repository, digest, _ = self._built(case, case.image)
        if case.name == "digest":
            return f"{repository}@{digest}"
        written = f"{repository}:{TAG}"
        return written.removeprefix(f"{SHORT}/") if case.name == "short" else written

    def needed(self, cases: Sequence[Case]) -> list[str]:
        """Return what must be on the node for these rows."""
        own = [self.tagged(case) for case in cases]
        beside = [self.tagged_as(case, image) for case in cases for image in SIGNED_AUXILIARIES]
        return list(dict.fromkeys([*own, *beside]))

    def archive(self, cases: Sequence[Case]) -> Path:
        """Write one OCI archive with the rows' images under their tags, and return it."""
        path = self.folder / "import.tar"
        write_archive(path, {self.tagged(case): Path(self._built(case, case.image)[2]) for case in cases})
        return path

    def _built(self, case: Case, image: str) -> Sequence[str]:
        host = SHORT if case.name == "short" else self.hosts[case.registry]
        return self.built[f"{host}/{image}"]


def of(settings: Settings, place: Place) -> Lab:
    """Return the built images and policies of a place, those of an earlier run or new ones."""
    from countersign.oci.access import registry

    return prepare(
        settings, place.runtime, place.node, place.registries, registry(settings), short_names=place.short_names
    )


def prepare(
    settings: Settings,
    runtime: str,
    node: str,
    hosts: Mapping[RegistryKind, str],
    client: Registry,
    *,
    short_names: bool,
) -> Lab:
    """Return the built images of the matrix; those under short names only where these lead to a registry of ours."""
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout

    def new_layout(mark: str, folder: Path) -> Path:
        return variant(demo_layout(settings), mark, folder)

    cases = [case for case in load() if short_names or case.name != "short"]
    return build(settings.state / "cases" / f"{runtime}-{node}", hosts, client, new_layout, cases)


def build(
    folder: Path,
    hosts: Mapping[RegistryKind, str],
    registry: Registry,
    new_layout: Callable[[str, Path], Path],
    cases: Sequence[Case],
) -> Lab:
    """Make what the rows need, unless it is there already.

    Args:
        folder: where keys, layouts and policies go.
        hosts: registry kind -> host name in references.
        registry: a client that reaches them.
        new_layout: (mark, folder) -> a layout of the demo image with that mark.
    """
    wanted = sorted({(SHORT if case.name == "short" else hosts[case.registry], case.image) for case in cases})
    wanted += [(hosts[kind], image) for kind in hosts for image in SIGNED_AUXILIARIES]
    stamp = _stamp(wanted)
    found = _read(folder, stamp)
    if found and _still_there(registry, found):
        return Lab(folder, hosts, found)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "keys").mkdir(parents=True)
    built = _build(folder, registry, new_layout, dict.fromkeys(wanted))
    _write_policies(folder, hosts, built)
    (folder / _BUILT).write_text(json.dumps({"stamp": stamp, "images": built}))
    return Lab(folder, hosts, built)


def _build(
    folder: Path, registry: Registry, new_layout: Callable[[str, Path], Path], wanted: Mapping[tuple[str, str], None]
) -> dict[str, Sequence[str]]:
    keys = {name: generate() for name in SIGNERS}
    for name, key in keys.items():
        (folder / "keys" / f"{name}.pub").write_text(key.public.pem)
    authorities, mark = signers.make(folder / "keys"), secrets.token_hex(4)

    def marked(name: str) -> Path:
        target = folder / "layouts" / name
        return target if target.exists() else new_layout(f"{name}-{mark}", target)

    entries = model.images()
    built: dict[str, Sequence[str]] = {}
    for host, name in wanted:
        image = Image(registry, f"{host}/{entries[name].repository}", keys, authorities, marked, marked(name))
        make(image, entries[name].made)
        built[f"{host}/{name}"] = (image.name, image.root.digest, str(image.layout))
    return built


def _write_policies(folder: Path, hosts: Mapping[RegistryKind, str], built: Mapping[str, Sequence[str]]) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    load = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701  YAML
    values = {
        "hosts": list(hosts.values()),
        "workflow": signers.WORKFLOW.rpartition("/")[0] + "/*",
        "issuer": signers.ISSUER,
        "person": signers.PERSON,
        "notary": notaries.identity("release"),
        "pinned": sorted(f"{row[0]}@{row[1]}" for key, row in built.items() if key.endswith("/pinned")),
        "revoked_digests": sorted({row[1] for key, row in built.items() if key.endswith("/revoked_digest")}),
    }
    for name in ("policy.yaml", "lax.yaml"):
        (folder / name).write_text(load.get_template(f"{name}.j2").render(values))


def _stamp(wanted: Sequence[tuple[str, str]]) -> str:
    """Return a hash of what is wanted and of the files that say how it is made."""
    content = hashlib.sha256(repr(wanted).encode())
    for name in _MAKES:
        content.update((HERE / name).read_bytes())
    return content.hexdigest()


def _read(folder: Path, stamp: str) -> dict[str, Sequence[str]]:
    try:
        document = json.loads((folder / _BUILT).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return dict(document["images"]) if document.get("stamp") == stamp else {}


def _still_there(registry: Registry, built: Mapping[str, Sequence[str]]) -> bool:
    """Say whether the registries still have every image (they may have been emptied meanwhile)."""
    for repository, digest, _ in built.values():
        found = registry.manifest_or_none(repository, TAG)
        if found is None or found[1].digest != digest:
            return False
    return True


def write_archive(path: Path, wanted: Mapping[str, Path]) -> None:
    """Write an OCI archive of several images; blobs that they share are written once."""
    entries, written = [], set()
    with tarfile.open(path, "w") as archive:
        for reference, folder in wanted.items():
            root = layouts.root(folder)
            entries.append({**root.as_json(), "annotations": {IMAGE_NAME: reference}})
            for blob in sorted((folder / "blobs" / "sha256").iterdir()):
                if blob.name not in written:
                    written.add(blob.name)
                    archive.add(blob, f"blobs/sha256/{blob.name}")
        index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        for name, content in (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
