"""Is the enforcement in force on a CRI-O? What would switch it off without an error.

Settings are judged by what CRI-O itself says is in effect, never by the file that we wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from countersign.enforcement.ask import ask
from countersign.enforcement.inspection import tried
from countersign.enforcement.problem import NotEnforced, Problem
from countersign.nodes.files import stats
from crio.effective import Effective
from crio.machine import Machine
from crio.paths import Paths
from crio.render import hook

if TYPE_CHECKING:
    from countersign.nodes.node import Node

PLUGIN = "countersign"


def examine(machine: Machine) -> None:
    """Look at everything that a look can tell.

    Raises:
        NotEnforced: with every problem found.
    """
    if problems := look(machine):
        raise NotEnforced(problems, machine.node.name)


def look(machine: Machine) -> list[Problem]:
    """Return every problem that a look can tell; what cannot be looked at is one, and hides no other."""
    looks: list[Callable[[], Iterable[Problem]]] = [
        lambda: settings_problems(machine.effective(), machine.paths),
        lambda: file_problems(machine),
        lambda: namespace_problems(machine.node, machine.paths),
        lambda: plugin_problems(str(ask(machine.node, machine.layout, "ping").get("nri", ""))),
    ]
    return [problem for each in looks for problem in tried(each)]


def settings_problems(found: Effective, paths: Paths) -> Iterator[Problem]:
    """Yield every setting in effect by which a container could start unseen."""
    if found.policy != paths.policy:
        yield Problem("signature_policy", repr(found.policy), f"{paths.policy!r}: else starts are not checked")
    if found.namespaces != paths.namespaces:
        yield Problem("signature_policy_dir", repr(found.namespaces), repr(paths.namespaces))
    if paths.hooks not in found.hooks_dirs:
        yield Problem("hooks_dir", repr(list(found.hooks_dirs)), f"one with {paths.hooks!r}")
    for key, value in found.criu.items():
        expected = "a value that restores nothing: a restored checkpoint starts without being judged"
        yield Problem(key, json.dumps(value), expected, f"take {key} out of CRI-O's configuration")
    if "@sha256:" not in found.sandbox:
        yield Problem("pause_image", repr(found.sandbox), "an image by digest")
    wanted = {
        "enable_nri": True,
        "nri_disable_connections": False,
        "nri_enable_default_validator": True,
        "nri_validator_tolerate_missing_plugins_annotation": "",
        "nri_validator_reject_oci_hook_adjustment": False,
    }
    for key, value in wanted.items():
        seen = found.nri.get(key, value if key == "nri_validator_reject_oci_hook_adjustment" else None)
        if seen != value:
            yield Problem(f"crio.nri.{key}", json.dumps(seen), json.dumps(value))
    required = found.nri.get("nri_validator_required_plugins", [])
    if PLUGIN not in required:
        yield Problem("crio.nri.nri_validator_required_plugins", json.dumps(required), f"one with {PLUGIN!r}")


def file_problems(machine: Machine) -> Iterator[Problem]:
    """Yield what is amiss with hook and programs on the node."""
    paths, layout = machine.paths, machine.layout
    seen = stats(machine.node, [paths.hook, layout.hook])
    found = machine.node.get(paths.hook) if paths.hook in seen else b""
    if found != hook(layout):
        yield Problem(paths.hook, "not the hook that set-up wrote" if found else "missing", "our hook")
    program = seen.get(layout.hook)
    if program is None or program.kind != "f" or not program.mode & 0o100:
        yield Problem(layout.hook, "no program", "the hook's program")


def namespace_problems(node: Node, paths: Paths) -> Iterator[Problem]:
    """Yield every file that would replace the policy for a namespace, and a folder that others may write to."""
    listed = node.run(["find", paths.namespaces, "-mindepth", "1", "-name", "*.json"], check=False)
    for path in listed.text.splitlines():
        yield Problem(path, "a policy for one namespace, which replaces the policy", "no such file", f"rm {path}")
    folder = stats(node, [paths.namespaces]).get(paths.namespaces)
    if folder is None or folder.mode & 0o022:
        yield Problem(paths.namespaces, "missing or open to others", "a folder of root's alone")


def plugin_problems(nri: str) -> Iterator[Problem]:
    """Yield a problem when CRI-O does not ask the gate as NRI plugin."""
    if nri != "connected":
        yield Problem("the gate's connection to NRI", nri or "unknown", "connected")
