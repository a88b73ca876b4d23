"""Kind nodes that are under enforcement before their containerd starts for the first time.

All that set-up would put on a running node is worked out beforehand, from what a throw-away container of the
node image says of itself, and mounted into the nodes (kind's ``extraMounts``) as one archive with a unit that
containerd's requires (systemd.unit(5), Requires=): it is unpacked once, so that set-up can change all of it later.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd import enforce
from containerd import survey as surveys
from containerd.machine import Machine
from containerd.pins import pin
from containerd.runtime import CONFIG, NAMESPACE
from containerd.survey import Survey
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.enforcement import node_units
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import GATE
from countersign.nodes.docker import DockerNode
from countersign.nodes.each import side_by_side
from countersign.nodes.host import HOST
from countersign.nodes.node import CommandError, Node
from countersign.nodes.steps import File, Folder, Link
from countersign.nodes.template import render
from countersign.runtimes.pins import keep
from countersign.runtimes.systemd import Taken
from countersign.runtimes.work import TOOLS, steps, work
from kind import cluster as clusters
from kind import engine
from kind.cluster import KindNode
from kind.creation import Mount
from kind.node_image import IMAGE

if TYPE_CHECKING:
    from docker import DockerClient

    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition

TEMPLATES = Path(__file__).with_name("preinstall")
PARTS = "/kind/countersign"
UNITS = "/usr/local/lib/systemd/system"
"""Of systemd's own search path (systemd.unit(5)), and empty in node images, so it can be mounted as a whole."""
MARKER = f"{SYSTEM.etc}/preinstalled"
UNIT = "countersign-preinstall.service"
STARTED_WITHIN = 30


@dataclass(frozen=True)
class Look:
    """What a node image says of itself.

    Attributes:
        survey: as that of a node.
        images: name → digest of every image in its store.
        config: sha256 of its containerd's configuration file, in hex.
    """

    survey: Survey = field(repr=False)
    images: Mapping[str, str]
    config: str


@dataclass(frozen=True)
class Preinstalled:
    """See `kind.creation.Preinstall`.

    Attributes:
        settings: the user's.
        addition: what the nodes are given beside enforcement.
        pins: the file on this machine with what set-up pins; written anew, for it is the image's.
    """

    settings: Settings
    addition: Addition
    pins: Path

    def prepare(self, client: DockerClient, image: str) -> Sequence[Mount]:
        """Write the archive and the units, and show the pins.

        Raises:
            InfrastructureError: the image's containerd cannot be asked.
            UsageError: the policy is invalid.
        """
        found = look(self.settings, client, image)
        found = replace(found, survey=replace(found.survey, lacks_resource=not engine.has_sys_resource()))
        pins = sorted({found.survey.sandbox, *filter(None, (pin(*each) for each in found.images.items()))})
        keep(self.pins, Taken(pins))
        home = clusters.folder(self.settings) / clusters.PREINSTALL
        parts = list(enforce.laid_out(self._steps(found, pins)))
        _write(home, parts, found)
        return [Mount(str(home / "parts"), PARTS), Mount(str(home / "units"), UNITS)]

    def confirm(self, nodes: Sequence[KindNode]) -> None:
        """See `Preinstall.confirm`."""
        side_by_side(_confirm, [each.node for each in nodes])

    def _steps(self, found: Look, pins: Sequence[str]) -> Sequence[Step]:
        from countersign.tools.resolver import install

        machine = Machine.as_set_up(self.settings, HOST, self.addition, self.pins).surveyed(found.survey)
        return steps(work(self.settings, machine, pins, install(TOOLS, self.settings)))


def _confirm(node: Node) -> None:
    if not node.exists(MARKER):
        end = node.run(["journalctl", f"--unit={UNIT}", "--output=cat", "--no-pager"], check=False).text[-600:]
        raise InfrastructureError(
            f"was not under enforcement from its first start: {end}",
            where=node.name,
            do="INVOKE_KIND_PREINSTALLED=no sets it up while it runs",
        )


def look(settings: Settings, client: DockerClient, image: str) -> Look:
    """Return what a node image says of itself; kept by the image's digest, as long as we ask the same.

    Raises:
        InfrastructureError: it cannot be asked.
    """
    kept = settings.cache / "kind-look" / f"{_key(str(client.images.get(image).id))}.json"
    if kept.is_file():
        return _read(kept.read_text(encoding="utf-8"))
    with _probe(client, image) as node:
        found = Look(
            surveys.survey(node, SYSTEM),
            surveys.targets(node),
            hashlib.sha256(node.get(CONFIG)).hexdigest(),
        )
    if not found.survey.sandbox:
        raise InfrastructureError("brings no sandbox image", where=image, do="set INVOKE_KIND_PREINSTALLED=no")
    kept.parent.mkdir(parents=True, exist_ok=True)
    HOST.put(_text(found), str(kept))
    return found


def _key(image: str) -> str:
    asked = [Path(__file__), Path(surveys.__file__)]
    return hashlib.sha256(b"".join([image.encode(), *(path.read_bytes() for path in asked)])).hexdigest()[:16]


@contextmanager
def _probe(client: DockerClient, image: str) -> Iterator[Node]:
    """Give a container of the image whose containerd serves its store and runs nothing; it is gone afterwards."""
    from docker.errors import DockerException

    name = f"{image} (asked what it has)"
    try:
        container = client.containers.run(
            image, ["infinity"], entrypoint=["sleep"], detach=True, network_mode="none", privileged=True
        )
    except DockerException as error:
        raise InfrastructureError(f"the Docker Engine refused: {error}", where=name) from None
    try:
        node = DockerNode(str(container.id), name, lambda: client)
        places = {
            "root": "/var/lib/containerd",
            "state": "/run/containerd",
            "socket": "/run/containerd/containerd.sock",
        }
        node.put(render(IMAGE / "import.toml.j2", **places), "/countersign.toml")
        container.exec_run(["containerd", "--config", "/countersign.toml"], detach=True)
        ready = ["sh", "-c", "until ctr version >/dev/null 2>&1; do sleep 0.05; done"]
        node.run(ready, timeout=STARTED_WITHIN)
        yield node
    except CommandError as error:
        raise InfrastructureError(f"its containerd cannot be asked: {error.found}", where=name) from error
    finally:
        container.remove(force=True)


def _text(found: Look) -> bytes:
    survey = asdict(found.survey)
    survey["config"] = found.survey.config.decode()
    survey["base_specs"] = {path: spec.decode() for path, spec in found.survey.base_specs.items()}
    return (json.dumps({"survey": survey, "images": dict(found.images), "config": found.config}) + "\n").encode()


def _read(text: str) -> Look:
    document: dict[str, Any] = json.loads(text)
    survey = document["survey"]
    survey["version"] = tuple(survey["version"])
    survey["config"] = survey["config"].encode()
    survey["base_specs"] = {path: spec.encode() for path, spec in survey["base_specs"].items()}
    return Look(Survey(**survey), document["images"], document["config"])


def _write(home: Path, parts: Sequence[Folder | File | Link], found: Look) -> None:
    """Write what nodes mount; only root of this machine can read it."""
    node, sandbox = HOST, found.survey.sandbox
    [config] = [part for part in parts if isinstance(part, File) and part.path == CONFIG]
    script = render(
        TEMPLATES / "install.sh.j2",
        config=CONFIG,
        marker=MARKER,
        before=found.config,
        after=config.digest(),
        namespace=NAMESPACE,
        sandbox=sandbox,
        tagged=_tagged(found.images, sandbox),
    )
    units = [File(node, f"{home}/units/{UNIT}", (TEMPLATES / UNIT).read_bytes())]
    units += [
        File(node, f"{home}/units/containerd.service.d/countersign.conf", (TEMPLATES / "containerd.conf").read_bytes())
    ]
    for part in parts:
        if isinstance(part, File) and part.path.startswith(f"{node_units.SYSTEMD}/{GATE}"):
            units.append(replace(part, path=f"{home}/units{part.path.removeprefix(node_units.SYSTEMD)}"))
    Folder(node, str(home), 0o700).apply()
    for file in (
        File(node, f"{home}/parts/root.tar", archive(parts), 0o600),
        File(node, f"{home}/parts/install.sh", script),
        *units,
    ):
        Folder(node, file.path.rpartition("/")[0]).apply()
        file.apply()


def _tagged(images: Mapping[str, str], sandbox: str) -> str:
    """Return the name under which the image has the sandbox's content."""
    digest = sandbox.partition("@")[2]
    names = (name for name, found in images.items() if found == digest and not name.startswith("sha256:"))
    return next((name for name in names if "@" not in name), sandbox)


def archive(parts: Iterable[Folder | File | Link]) -> bytes:
    """Return what steps put on a node as an archive (tar(5), GNU format) of root's own files, in their order."""
    content, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for part in parts:
            entry = tarfile.TarInfo(part.path.lstrip("/"))
            entry.mtime = now
            data = b""
            if isinstance(part, Folder):
                entry.type, entry.mode = tarfile.DIRTYPE, part.mode
            elif isinstance(part, Link):
                entry.type, entry.linkname = tarfile.SYMTYPE, part.target
            else:
                data = part.content if isinstance(part.content, bytes) else part.content.read_bytes()
                entry.mode, entry.size = part.mode, len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()
