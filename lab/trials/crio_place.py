"""A CRI-O under enforcement as a place where the matrix runs (``lab.trials.place``)."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from countersign.console.errors import InfrastructureError
from countersign.enforcement import refusal
from crio import render
from crio.runtime import Crio
from lab.trials.cri_place import CriPlace
from lab.trials.engines import code_of as native_code
from lab.trials.lab import IMAGE_NAME
from lab.trials.model import Case

Judges = Literal["gate", "own", "both"]
"""Who decides while trials run: the gate alone, CRI-O's own engine alone, or both, as set-up left them."""
NOT_HERE = frozenset(
    {
        *("retagged", "repointed", "repointed_back", "record_removed"),
        *("hooked_handler", "added_handler", "added_handler_gate_hung", "other_runtime"),
        *("gate_stopped_at_start", "gate_hung_at_start"),
    }
)
"""Ways that give an image another name in the store, for which CRI-O has no call (`crio_starts` has its own); that
add a handler without the hook, which CRI-O has from one folder for all; and where the hook runs after create."""
ARCHIVED = frozenset({"registry_swapped"})
"""Images that are not what their names lead to in the registry: CRI-O has no import, so nothing else comes to it."""
NAMES = ("tag", "digest", "short")
ALWAYS = {"volume": "UNSUPPORTED_RUNTIME"}
"""Way → the code of all its rows on CRI-O: volumes are not judged there."""
OTHER_CODES = {"two_scopes_a/import": "BAD_SIGNATURE"}
"""Row → its code on CRI-O, where that is another: no written name is kept, so every name must allow it."""


class CrioPlace(CriPlace):
    """A CRI-O that set-up made."""

    runtime = "crio"

    def __init__(self, machine: Crio, users_policy: Path, judges: Judges = "gate") -> None:
        """Open the place; see `CriPlace`.

        Args:
            users_policy: the policy.yaml that ``restore_policy`` puts back.
        """
        super().__init__(machine, users_policy)
        self.machine = machine
        self._judges = judges
        self._policy = users_policy

    @staticmethod
    def rows(cases: Sequence[Case]) -> list[Case]:
        """Return the matrix as the gate must judge it here: always at create, for CRI-O asks no one else at pull."""
        return [
            replace(
                case, code=OTHER_CODES.get(f"{case.image}/{case.way}", ALWAYS.get(case.way, case.code)), layer="create"
            )
            for case in cases
            if case.way not in NOT_HERE and case.image not in ARCHIVED and case.name in NAMES
        ]

    def code_of(self, message: str) -> str:
        """Return the reason code in the gate's own sentence, or the one that CRI-O's own words stand for."""
        return refusal.code_of(message) or native_code(message)

    def set_policy(self, source: Path) -> None:
        """Put a policy on the node for those who decide here, and let the other one accept everything."""
        self._policy = source
        self.set_own(None if self._judges == "gate" else source)
        if self._judges != "own":
            super().set_policy(source)

    def restore_policy(self) -> None:
        """Put the user's policy back, for both."""
        self.set_own(self._users_policy)
        CriPlace.set_policy(self, self._users_policy)

    def set_own(self, source: Path | None) -> None:
        """Give CRI-O's own engine a policy; None accepts everything."""
        node, paths = self.machine.node, self.machine.paths
        if source is None:
            node.put(render.accepting(), paths.policy)
            return
        for file in self.machine.native(source, self.machine.pinned()):
            node.put(file.content, file.path, file.mode)

    def import_images(self, archive: Path) -> None:
        """Bring an archive's images into the store past every check.

        CRI-O has no import: they are pulled while its own engine accepts everything; the gate has no say at pulls.
        """
        self.set_own(None)
        for reference in _names(archive):
            self.pull(reference)
        if self._judges != "gate":
            self.set_own(self._policy)

    def tag(self, source: str, target: str) -> None:
        """Raise InfrastructureError: CRI has no such call, and CRI-O no other way."""
        raise InfrastructureError("CRI-O gives images no other names", where=f"{source} → {target}")

    def added_handler(self, *, hooked: bool, other_runtime: bool = False) -> AbstractContextManager[str]:
        """Raise InfrastructureError: on CRI-O every handler has the hook, from one folder."""
        raise InfrastructureError(
            "CRI-O's handlers have no hook of their own", where=f"hooked: {hooked}, other runtime: {other_runtime}"
        )

    def forget(self, reference: str) -> None:
        """Remove an image with all its names: CRI-O forgets no single one."""
        self._client.remove_image(reference)

    def empty(self, prefixes: Sequence[str]) -> None:
        """See `lab.trials.place.Place.empty`; pods go first, for CRI-O keeps images that containers use."""
        self._remove_pods()
        super().empty(prefixes)


def _names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        if index is None:
            raise InfrastructureError("has no index.json", where=str(archive))
        return [entry["annotations"][IMAGE_NAME] for entry in json.load(index)["manifests"]]
