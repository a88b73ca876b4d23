"""The steps that put a containerd under systemd under enforcement, and those that take it off again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from containerd.runtime import CONFIG, Containerd
from containerd.survey import targets
from countersign.console.errors import InfrastructureError
from countersign.enforcement.node_units import CONTAINERD, GATE, SYSTEMD
from countersign.enforcement.policy import Policy
from countersign.nodes.files import stats
from countersign.nodes.node import CommandError
from countersign.nodes.steps import File, Folder, Group, Link, unmade
from countersign.nodes.systemd import UnitRuns

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

WANTED_BY = "multi-user.target"
BEFORE = f"{CONFIG}.before-countersign"
"""The node's own configuration, kept for the day that enforcement is taken away."""


def laid_out(some: Iterable[Step]) -> Iterator[Folder | File | Link]:
    """Yield all that these steps put on a node, for one that does not run yet; what they start is left out."""
    for step in some:
        if isinstance(step, Group):
            yield from laid_out(step.parts)
        elif isinstance(step, (Folder, File, Link)):
            yield step
        elif isinstance(step, Policy):
            yield from step.laid_out()
        elif isinstance(step, Configured):
            yield File(step.machine.node, CONFIG, step.config)
        elif isinstance(step, UnitRuns) and step.enable:
            yield Link(step.node, f"{SYSTEMD}/{WANTED_BY}.wants/{step.unit}", f"{SYSTEMD}/{step.unit}")


@dataclass(frozen=True)
class SandboxNamed:
    """The sandbox image that the node has under a tag is known by its digest as well, so nothing has to be pulled."""

    machine: Containerd
    sandbox: str

    @property
    def name(self) -> str:
        """What users read."""
        return "sandbox image by digest"

    def needed(self) -> bool:
        """Return whether the node has its content without the name; an image that is to be pulled needs nothing."""
        known = targets(self.machine.node)
        return self.sandbox not in known and self._digest in known.values()

    def apply(self) -> None:
        """Name it, and keep it from being collected as garbage; clean takes back what was named here."""
        self.machine.node.put(f"{self.sandbox}\n".encode(), named_by_us(self.machine), 0o600)
        tagged = next(name for name, digest in targets(self.machine.node).items() if digest == self._digest)
        self.machine.ctr(["images", "tag", "--force", tagged, self.sandbox])
        self.machine.ctr(["images", "label", self.sandbox, "io.cri-containerd.pinned=pinned"])

    @property
    def _digest(self) -> str:
        return self.sandbox.partition("@")[2]


def named_by_us(machine: Containerd) -> str:
    """Return the path of the file on a node that holds the name which `SandboxNamed` gave its sandbox image."""
    return f"{machine.layout.lib}/sandbox-named"


@dataclass(frozen=True)
class Configured:
    """Containerd runs by a configuration of ours; if it does not come back, the old one is put back.

    Attributes:
        machine: the node.
        config: the configuration.
        base_specs: paths of files that it reads at its start.
    """

    machine: Containerd
    config: bytes = field(repr=False)
    base_specs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What users read."""
        return f"containerd by our settings in {CONFIG}"

    @property
    def _parts(self) -> tuple[File, UnitRuns]:
        node = self.machine.node
        return File(node, CONFIG, self.config), UnitRuns(node, CONTAINERD, (CONFIG, *self.base_specs))

    def needed(self) -> bool:
        """Return whether the file differs, or containerd has not read it."""
        return any(part.needed() for part in self._parts)

    def diff(self) -> str:
        """See `countersign.console.steps.ShowsDiff`; a restart alone shows no lines."""
        file, _ = self._parts
        return file.diff() if file.needed() else ""

    def apply(self) -> None:
        """Write it, restart, and wait for an answer over CRI.

        Raises:
            InfrastructureError: containerd does not read it, or did not come back and runs as before.
        """
        (file, runs), node = self._parts, self.machine.node
        old = node.get(CONFIG) if node.exists(CONFIG) else None
        if file.needed():
            _check(node, self.config)
            if not node.exists(BEFORE):
                node.run(["cp", "-a", "--", CONFIG, BEFORE]) if old is not None else node.put(b"", BEFORE, 0o600)
            file.apply()
        try:
            runs.apply()
            self.machine.wait_until_it_answers()
        except InfrastructureError as error:
            if old is None or old == self.config:
                raise
            node.put(old, CONFIG)
            runs.apply()
            raise InfrastructureError(
                f"containerd did not come back ({error.found}); it runs by its old configuration again",
                where=f"{node.name}: {CONFIG}",
                do="read journalctl -u containerd there",
            ) from error


def _check(node: Node, config: bytes) -> None:
    """Let containerd itself read a configuration before it has to live by it."""
    trial = node.run(["mktemp", "/etc/containerd/.countersign.XXXXXXXX"]).text
    try:
        node.put(config, trial, 0o600)
        node.run(["containerd", "--config", trial, "config", "dump"])
    except CommandError as error:
        raise InfrastructureError(
            f"containerd does not read our settings: {error.found}", where=f"{node.name}: {CONFIG}"
        ) from error
    finally:
        node.run(["rm", "-f", "--", trial])


@dataclass(frozen=True)
class Restored:
    """Containerd runs as it did before set-up, and nothing of ours is left on the node.

    Attributes:
        machine: the node.
        names: of registries that the node may have been led to.
    """

    machine: Containerd
    names: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.machine.node.name} is as it was"

    def needed(self) -> bool:
        """Return whether anything of ours is there."""
        layout = self.machine.layout
        ours = (BEFORE, layout.etc, layout.gate, layout.hook, layout.verifier, f"{SYSTEMD}/{GATE}")
        return bool(stats(self.machine.node, ours))

    def apply(self) -> None:
        """Put containerd's own configuration back first: without our hook it needs none of the rest."""
        layout, node = self.machine.layout, self.machine.node
        if node.exists(BEFORE):
            node.run(["mv", "-f", "--", BEFORE, CONFIG] if node.get(BEFORE) else ["rm", "-f", "--", BEFORE, CONFIG])
            node.run(["systemctl", "restart", CONTAINERD])
        if node.exists(named_by_us(self.machine)):
            name = node.get(named_by_us(self.machine)).decode().strip()
            self.machine.ctr(["images", "rm", name], check=False)
        node.run(["systemctl", "disable", "--now", GATE], check=False)
        made = unmade(node, layout.folders_made)
        paths = [layout.gate, layout.hook, layout.verifier, f"{SYSTEMD}/{GATE}", f"{SYSTEMD}/{GATE}.d"]
        hosts = [f"{layout.certs}/{name}" for name in self.names]
        node.run(["rm", "-rf", "--", *paths, *hosts, layout.etc, layout.lib, layout.run, layout.log])
        if made:
            node.run(["rmdir", "--ignore-fail-on-non-empty", "--", *made], check=False)
        node.run(["systemctl", "daemon-reload"])


@dataclass(frozen=True)
class ImagesRemoved:
    """The machine has no image of a lab's registries."""

    machine: Containerd
    names: Sequence[str]
    name: str = "the demo's images are removed"

    def needed(self) -> bool:
        """Return whether it has one."""
        return bool(self._found())

    def apply(self) -> None:
        """Remove them over CRI, which removes their IDs as well."""
        with self.machine.client() as client:
            for image in client.list_images():
                if any(self._ours(name) for name in (*image.tags, *image.digests)):
                    client.remove_image(image.id)
        self.machine.forget(*self._found())

    def _found(self) -> list[str]:
        return [name for name in targets(self.machine.node) if self._ours(name)]

    def _ours(self, name: str) -> bool:
        return any(name.startswith(f"{host}/") for host in self.names)
