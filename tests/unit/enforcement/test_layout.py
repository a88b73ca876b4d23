"""Where everything lies on a node is the same whoever brings it: set-up over a connection, or the node itself."""

from __future__ import annotations

import re
from dataclasses import fields

from countersign.console.config import ROOT
from countersign.enforcement.layout import SYSTEM
from crio.paths import INSTALLED

GO = (ROOT / "gate/internal/install/layout.go").read_text(encoding="utf-8")
GIVEN = dict(re.findall(r'^\t(\w+): +"(/[^"]+)",$', GO, re.MULTILINE))
JOINED = re.compile(r'^func \(l layout\) (\w+)\(\) string +\{.*Join\(l\.(\w+), ("[^)]+)\) \}$', re.MULTILINE)
BELOW = {name: "/".join([GIVEN[folder], *re.findall('"([^"]+)"', names)]) for name, folder, names in JOINED.findall(GO)}


def test_the_folders_are_those_of_a_node_that_installs_itself() -> None:
    assert {each.name: getattr(SYSTEM, each.name) for each in fields(SYSTEM)}.items() <= GIVEN.items()
    assert GIVEN["registriesD"] == INSTALLED.registries_d


def test_the_files_are_those_of_a_node_that_installs_itself() -> None:
    assert {
        "config": SYSTEM.gate_config,
        "policy": SYSTEM.policy,
        "logins": SYSTEM.docker_config,
        "socket": SYSTEM.gate_socket,
        "evidence": SYSTEM.evidence,
        "enginePolicy": INSTALLED.policy,
        "namespaces": INSTALLED.namespaces,
        "hooks": INSTALLED.hooks,
    }.items() <= BELOW.items()
