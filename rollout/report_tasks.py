"""Task: what a policy would make of a cluster, before anything is enforced (it becomes ``rollout.report``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "kubeconfig": "leads to the cluster (default: $KUBECONFIG, else ~/.kube/config)",
        "policy": "the proposed policy.yaml, or a rendered one (default: policy of the configuration)",
        "namespace": "only this one",
        "out": "folder for report.html and report.csv (default: the working directory)",
        "json": "one JSON document on stdout",
    }
)
def report(
    context: Context, kubeconfig: str = "", policy: str = "", namespace: str = "", out: str = "", json: bool = False
) -> None:
    """Write one page and a CSV: who signs what a cluster runs, what is unsigned, what would break under a policy.

    It changes nothing, and needs a user who may list pods.

    Example: ./inv rollout.report --policy policy.yaml
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import InfrastructureError, UsageError
    from countersign.nodes.api_server import connect
    from countersign.oci.access import docker_configs, hosts_folder
    from rollout import report as reporting
    from rollout.workloads import uses
    from signing import verify as verifying
    from signing.inspection import rendered

    settings = settings_from(context)
    path = reporting.kubeconfig(kubeconfig)
    folder = Path(out).expanduser()
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=str(folder), do="make it, or give another --out")
    source = Path(policy).expanduser() if policy else settings.policy
    wanted = rendered(source)
    program = verifying.program(settings)
    api = connect(path)
    found, more = uses(api, namespace)
    if not found:
        raise UsageError(
            "no pod runs there", where=namespace or str(path), do="name another --namespace or --kubeconfig"
        )
    access = verifying.Access(hosts_folder(settings), docker_configs(settings))
    with output.progress("images") as far:
        judged = reporting.judge({use.judged for use in found}, program, wanted, access, far)
    made = reporting.Report(api.address, str(source), found, judged, more)
    try:
        (folder / "report.html").write_text(reporting.as_html(made), encoding="utf-8")
        (folder / "report.csv").write_text(reporting.as_csv(made), encoding="utf-8", newline="")
    except OSError as error:
        raise InfrastructureError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    if json:
        output.emit_json(made.as_json())
    output.table(
        ("namespace", "workloads", "would break", "not known"),
        [(name, *map(str, numbers)) for name, *numbers in made.namespaces],
    )
    for use in made.breaks[: reporting.SHOWN]:
        output.say(f"would be refused: {use.namespace}/{use.workload}: {use.image}: {made.of(use).code}")
    if more:
        output.warn("there are more pods than were looked at; take one namespace at a time")
    output.done(
        f"{len(made.breaks)} of {len(found)} containers would not start again, {len(made.unknown)} are not known: "
        f"{folder / 'report.html'}, {folder / 'report.csv'}"
    )
