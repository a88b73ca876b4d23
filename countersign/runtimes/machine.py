"""A runtime on one node: what every runtime does the same way over CRI, and what each has to say for itself.

A runtime's adapter is a class derived from it, under systemd (`systemd.py`) or private to this host (`private.py`); see
CONTRIBUTING.md, "a runtime".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.enforcement import additions, doctor, nri, policy, proof
from countersign.enforcement.additions import NOTHING
from countersign.enforcement.node_units import KUBELET
from countersign.enforcement.runtime import Recovering
from countersign.nodes.waiting import RECOVERY, wait_for

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.cri.client import Client
    from countersign.cri.model import Auth
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.layout import Layout
    from countersign.enforcement.node_files import Written
    from countersign.enforcement.problem import Problem
    from countersign.enforcement.proof import Proof
    from countersign.nodes.node import Node
    from countersign.nodes.steps import Group
    from countersign.runtimes.keeping import Keeper


@dataclass(frozen=True)
class Machine(ABC):
    """A runtime on a node; see `countersign.enforcement.runtime.Runtime`.

    Attributes:
        state: the state folder on this machine.
        node: where it runs.
        layout: where our parts lie there.
        handlers: its runtime handlers, the default one first.
        pins: the file on this machine with what set-up pinned.
        addition: what it is given beside enforcement.
        cgroup_parent: of pods that trials make.
    """

    state: Path
    node: Node
    layout: Layout
    handlers: Sequence[str]
    pins: Path
    addition: Addition = field(default=NOTHING, repr=False, compare=False)
    cgroup_parent: str = ""

    room: ClassVar[str]
    """The runtime's name: of its tasks, and in gate.json."""
    title: ClassVar[str]
    """Its name for people."""
    verb: ClassVar[str] = "setup"
    """The task that sets it up."""
    status: ClassVar[str]
    """The version of the document of ``status --json``."""
    unit: ClassVar[str]
    """Its systemd unit."""
    answers_within: ClassVar[float] = RECOVERY
    """Seconds within which it answers once it was started."""

    # What each runtime has to say for itself.

    @property
    @abstractmethod
    def socket(self) -> str:
        """Its CRI socket on the node."""

    @abstractmethod
    def gate_options(self) -> Mapping[str, Any]:
        """Return what `countersign.enforcement.gate.Gate` has to know of it."""

    @abstractmethod
    def way(self) -> list[Group]:
        """Return the steps by which it and the gate find the registries of its addition; none where it has none."""

    def own_policy(self, _policy: policy.Policy) -> list[Step]:
        """Return the step that gives its own engine its part of a policy; none where it has no engine of its own."""
        return []

    @abstractmethod
    def configured(self, written: Written) -> list[Step]:
        """Return the steps by which it runs by our settings; they come last, when all that it reads is there.

        Args:
            written: what the gate's program says that the node has to have (`countersign.enforcement.gate.written`).
        """

    def remembered(self, _written: Written) -> list[Step]:
        """Return what of its own configuration has to stay as it was put there; see `configured`."""
        return []

    @abstractmethod
    def fetch(self, reference: str) -> None:
        """Bring an image of a mapped registry into the store past every check at pull."""

    @abstractmethod
    def forget(self, *references: str) -> None:
        """Remove names from the image store behind CRI's back; one that is not there is not an error."""

    def own_files(self) -> Sequence[str]:
        """Return those of its files that tell what happened; none has secrets."""
        return ()

    @property
    def program(self) -> str:
        """Its program on the node, which knows the NRI that it was built with."""
        return self.room

    def prove_options(self) -> list[str]:
        """Return what ``countersign-gate prove`` has to know beside its configuration."""
        return ["--cgroup-parent", self.cgroup_parent]

    @property
    def crio_socket(self) -> str:
        """For the doctor: CRI-O's socket, where it is CRI-O."""
        return ""

    @property
    @abstractmethod
    def keeper(self) -> Keeper:
        """What keeps it and its gate running."""

    # What all of them do.

    @classmethod
    def setup(cls) -> str:
        """Return the command that sets it up."""
        return f"./inv {cls.room}.{cls.verb}"

    @property
    def registry_names(self) -> Sequence[str]:
        """See `Runtime.registry_names`."""
        return self.addition.names

    def client(self, timeout: float = 60) -> Client:
        """See `Runtime.client`."""
        from countersign.cri.client import Client

        return Client(
            self.node.forward(self.socket),
            cgroup_parent=self.cgroup_parent,
            log_directory=f"{self.layout.log}/pods",
            read=self.node.get,
            timeout=timeout,
        )

    def pinned(self) -> list[str]:
        """See `Runtime.pinned`."""
        return policy.read_pins(self.pins)

    def credentials(self, reference: str) -> Auth | None:
        """See `Runtime.credentials`."""
        return additions.credentials(self.addition, reference)

    def controls(self) -> Recovering:
        """See `Runtime.controls`."""
        return Recovering(self.keeper.controls(self.wait_until_it_answers), self)

    def undisturbed(self) -> AbstractContextManager[None]:
        """See `Runtime.undisturbed`."""
        return self.keeper.undisturbed()

    def kept(self) -> Sequence[str]:
        """See `Runtime.kept`."""
        return (self.layout.verdicts, self.layout.gate_config, self.layout.policy, *self.own_files())

    def require_up(self) -> None:
        """See `Runtime.require_up`; the kubelet is its user's."""
        for found in self.keeper.states():
            if not found.up and found.name != KUBELET:
                raise InfrastructureError(f"{found.name} is {found.state}", where=found.node, do=f"run {self.setup()}")

    def wait_until_it_answers(self) -> None:
        """Return once it answers over CRI. Raises InfrastructureError when it does not in time."""
        with self.client(timeout=5) as client:

            def answers() -> bool:
                try:
                    return bool(client.version().version)
                except CriError:
                    return False

            what = f"{self.title} on {self.node.name} did not answer over CRI"
            wait_for(answers, what, self.answers_within, pause=0.05)

    def wait_for_plugin(self) -> None:
        """Return once it asks the gate as its NRI plugin; before that it makes no container at all."""
        nri.wait_for_plugin(self.node, self.layout, self.answers_within)

    def wait_until_ready(self) -> None:
        """Return once containers can be made."""
        self.wait_until_it_answers()
        self.wait_for_plugin()

    def findings(self) -> list[Problem]:
        """Return everything by which the node does not enforce, without starting anything."""
        return doctor.findings(self.node, self.layout, self.pins, self.crio_socket)

    def prove(self, image: str = "") -> Proof:
        """Refuse to call it done while anything could run unseen; ``image`` is one that the policy has to allow.

        Raises:
            NotEnforced: with everything found.
            InfrastructureError: it could not be tried.
        """
        self.wait_for_plugin()
        warnings = doctor.examine(self.node, self.layout, self.crio_socket)
        proven = self.tried(image)
        return replace(proven, notes=(*proven.notes, *map(str, warnings)))

    def tried(self, image: str = "") -> Proof:
        """Have the node prove itself; see `countersign.enforcement.proof.prove`."""
        return proof.prove(self, *self.prove_options(), image=image)

    def told(self) -> str:
        """Return a line about its NRI; empty where it cannot require the gate's plugin."""
        return nri.told(self.node, self.layout, self.program)
