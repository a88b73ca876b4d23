"""The namespaces of ``./inv``: each room's ``commands.py`` is one; this file only assembles them."""

from importlib import import_module
from pathlib import Path

from invoke.collection import Collection

from countersign.enforcement import additions

ROOMS = {  # namespace -> module; those of later rooms are listed when they come
    "containerd": "containerd.commands",
    "signing": "signing.commands",
    "policy": "countersign.policy.commands",
    "tools": "countersign.tools.commands",
    "kind": "kind.commands",
    "vagrant": "machines.commands",
    "admission": "admission.commands",
    "crio": "crio.commands",
    "lab": "lab.demo.commands",
    "bench": "lab.bench.commands",
    "report": "lab.report.commands",
    "all": "lab.trials.commands",
}

additions.offer(lambda: import_module("lab.demo.lab").DEMO)  # what host and Kind have, and other machines if asked
ns = Collection()
for name, module in ROOMS.items():
    if (Path(__file__).parent / f"{module.replace('.', '/')}.py").is_file():
        ns.add_collection(Collection.from_module(import_module(module), name=name))
if (Path(__file__).parent / "tests" / "commands.py").is_file():
    ns.add_task(import_module("tests.commands").run_tests)
ns.collections["policy"].add_task(import_module("containerd.pinning").pin)  # countersign/policy/ knows no nodes
