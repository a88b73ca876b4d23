"""Tasks: the Kind cluster, its node image, and the Docker Engine below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

JSON = "one JSON document on stdout"
PLAN = "list the steps and change nothing"


@task(help={"stop": "stop the private engine; what it keeps stays", "plan": PLAN})
def engine(context: Context, stop: bool = False, plan: bool = False) -> None:
    """Start a private Docker Engine, for machines where none answers; the user's own is never touched.

    Example: ./inv kind.engine
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.steps import run_steps
    from kind import engine as engines

    settings = settings_from(context)
    if stop:
        output.say("stopped" if engines.stop(settings) else "it does not run")
        return
    run_steps(engines.steps(settings), plan=plan)
    if not plan:
        output.say(f"DOCKER_HOST={engines.private(settings).url}")


@task(help={})
def node_image(context: Context) -> None:
    """Build the node image that stands in for kindest/node, unless it is there already; print its name.

    Example: ./inv kind.node-image
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from kind import engine as engines
    from kind import node_image as images

    settings = settings_from(context)
    output.emit_text(images.build(settings, engines.docker_client(settings)))


@task(help={"keep": "keep a half-made cluster for a look", "plan": PLAN})
def create(context: Context, keep: bool = False, plan: bool = False) -> None:
    """Make the cluster, without enforcement yet: workers take no pods before containerd.setup.

    Example: ./inv kind.create
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.steps import run_steps
    from kind.cluster import require
    from kind.creation import Exists

    settings = settings_from(context)
    run_steps([Exists(settings, keep)], plan=plan)
    if not plan:
        output.say(f"KUBECONFIG={require(settings).kubeconfig}")


@task(help={})
def delete(context: Context) -> None:
    """Delete the cluster; one that is not ours is refused. The demo's registries stay for the next one.

    Example: ./inv kind.delete
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from kind.cluster import delete as delete_cluster

    settings = settings_from(context)
    with output.progress(f"cluster {settings.kind.cluster} is removed"):
        was = delete_cluster(settings)
    if not was:
        output.say("there was none")


@task(help={"json": JSON})
def status(context: Context, json: bool = False) -> None:
    """Show the cluster's nodes; exit code 4 when one of them is down or there is no cluster.

    Example: ./inv kind.status
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from kind.cluster import require

    settings = settings_from(context)
    found = require(settings)
    if json:
        nodes = [{"name": each.name, "role": each.role, "running": each.running} for each in found.nodes]
        document = {"version": "countersign.kind-status/v1", "cluster": found.name, "nodes": nodes}
        output.emit_json({**document, "kubeconfig": str(found.kubeconfig)})
    else:
        rows = [(each.name, each.role, "running" if each.running else "down") for each in found.nodes]
        output.table(("node", "role", "container"), rows)
        output.say(f"KUBECONFIG={found.kubeconfig}")
    found.require_running()


@task(
    iterable=["image", "archive"],
    help={"image": "an image of the Docker Engine (may be repeated)", "archive": "an image archive (may be repeated)"},
)
def load(context: Context, image: list[str], archive: list[str]) -> None:
    """Load images into every node, past every check at pull: the gate judges them when they start.

    Example: ./inv kind.load --archive app.tar
    """
    from pathlib import Path

    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import UsageError
    from kind.cluster import load as load_images

    archives = [Path(each) for each in archive]
    if not image and not archives:
        raise UsageError("nothing to load", expected="--image or --archive")
    for each in archives:
        if not each.is_file():
            raise UsageError("there is no such file", where=str(each))
    load_images(settings_from(context), image, archives)
    output.done(f"{len(image) + len(archives)} loaded")
