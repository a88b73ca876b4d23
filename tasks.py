"""The namespaces of ``./inv``: each room's ``commands.py`` is one; this file only assembles them."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends us without a traceback until main() can say so

from importlib import import_module
from pathlib import Path

from invoke.collection import Collection

from countersign.enforcement import additions

ROOMS = {  # namespace -> modules; a room of the product stands without the lab, which adds its own tasks
    "containerd": ("containerd.commands", "lab.trials.containerd_tasks"),
    "signing": (
        "signing.commands",
        *(f"signing.{name}_tasks" for name in ("attest", "inspect", "recover", "relocation", "revoke", "rotate")),
    ),
    "signing.stack": ("signing.stack.commands",),
    "evidence": ("rollout.evidence_tasks",),
    "policy": ("countersign.policy.commands", "containerd.pinning", "rollout.commands"),  # policy/ knows no nodes
    "rollout": ("rollout.chart_tasks", "rollout.report_tasks"),
    "trust": ("countersign.trust.commands",),
    "tools": ("countersign.tools.commands",),
    "kind": ("kind.commands",),
    "vagrant": ("machines.commands",),
    "admission": ("admission.commands", "lab.trials.admission_tasks"),
    "crio": ("crio.commands", "lab.trials.crio_tasks"),
    "release": ("release.commands", "release.verify_tasks", "release.init_tasks"),
    "lab": ("lab.demo.commands",),
    "demo": ("lab.demo.record_tasks",),
    "bench": ("lab.bench.commands",),
    "report": ("lab.report.commands",),
    "bypass": ("lab.trials.bypass_tasks",),
    "all": ("lab.commands",),
}

additions.offer(lambda: import_module("lab.demo.lab").DEMO)  # what host and Kind have, and other machines if asked
ns = Collection()
for name, modules in ROOMS.items():
    above, _, leaf = name.rpartition(".")
    namespace = Collection(leaf)
    for module in modules:
        if (Path(__file__).parent / f"{module.replace('.', '/')}.py").is_file():
            for task in Collection.from_module(import_module(module)).tasks.values():
                namespace.add_task(task)
    (ns.collections[above] if above else ns).add_collection(namespace)
if (Path(__file__).parent / "tests" / "commands.py").is_file():
    ns.add_task(import_module("tests.commands").run_tests)

if __name__ == "__main__":
    from countersign.console.program import main

    main(ns)
