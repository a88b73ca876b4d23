from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from countersign.nodes.facts import Facts, gather
from countersign.nodes.node import Result


class Machine:
    """A node that answers as a machine of a kind would."""

    name = "fake"

    def __init__(self, capabilities: str, overlay: int, machine: str) -> None:
        self.answers = {"uname": machine, "grep": f"CapBnd:\t{capabilities}", "mktemp": "/state/overlay.x"}
        self.overlay = overlay
        self.argvs: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], *, check: bool = True, **_: Any) -> Result:
        self.argvs.append(argv)
        code = self.overlay if argv[0] == "unshare" else 0
        assert not check or code == 0
        return Result(tuple(argv), code, self.answers.get(argv[0], "").encode(), b"", 0)


@pytest.mark.parametrize(
    ("machine", "facts"),
    [
        (Machine("000001ffffffffff", 0, "x86_64"), Facts("overlayfs", False, "linux/amd64")),
        (Machine("000001fffeffffff", 32, "aarch64"), Facts("native", True, "linux/arm64")),
        (Machine("0000000000000000", 0, "riscv64"), Facts("overlayfs", True, "linux/riscv64")),
    ],
)
def test_facts_are_asked_of_the_machine(machine: Any, facts):
    assert gather(machine, "/state") == facts


def test_the_trial_ends_with_its_own_mounts_and_leaves_no_folder():
    machine: Any = Machine("000001ffffffffff", 1, "x86_64")
    gather(machine, "/state")
    assert next(argv for argv in machine.argvs if "mount" in argv)[:2] == ["unshare", "--mount"]
    assert ["rm", "-rf", "--", "/state/overlay.x"] in machine.argvs
