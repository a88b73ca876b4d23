"""Tasks: the machine of the place ``vagrant``, and the box that is built where no catalogue is in reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

JSON = "one JSON document on stdout"
PLAN = "list the steps and change nothing"


@task(help={"provider": "lxc or libvirt; default: the one that works here", "plan": PLAN, "json": JSON})
def box(context: Context, provider: str = "", plan: bool = False, json: bool = False) -> None:
    """Build the box `built` from Debian packages, unless it is in the cache already.

    Example: ./inv vagrant.box --provider lxc
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.steps import run_steps
    from machines import boxes, providers

    settings = settings_from(context)
    chosen = provider or settings.vagrant.provider or providers.choose(settings)
    wanted = boxes.box(settings, chosen)
    results = run_steps([boxes.BoxBuilt(settings, chosen)], plan=plan)
    if json:
        document = {"version": "countersign.vagrant-box/v1", "provider": chosen, "box": wanted.vagrant_name}
        output.emit_json({**document, "path": str(wanted.path), "changed": sum(each.changed for each in results)})
    else:
        output.say(str(wanted.path))


@task(help={"keep": "keep a half-made machine for a look", "plan": PLAN, "json": JSON})
def up(context: Context, keep: bool = False, plan: bool = False, json: bool = False) -> None:
    """Bring the machine up; it is made if there is none.

    Example: ./inv vagrant.up
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from machines import vagrant

    settings = settings_from(context)
    changed = vagrant.up(settings, plan=plan, keep=keep)
    if json:
        machine = settings.vagrant.machine
        output.emit_json({"version": "countersign.vagrant-up/v1", "machine": machine, "changed": changed})


@task(help={"json": JSON})
def status(context: Context, json: bool = False) -> None:
    """Show how the machine is; exit code 4 when it is not up.

    Example: ./inv vagrant.status
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import InfrastructureError
    from machines import vagrant
    from machines.place import place

    settings = settings_from(context)
    here = place(settings)
    made, state = here.made(), vagrant.state(settings)
    provider, name = (made.provider, made.box) if made else ("", "")
    if json:
        document = {"version": "countersign.vagrant-status/v1", "machine": here.name, "state": state}
        output.emit_json({**document, "provider": provider, "box": name, "guest": here.guest if made else ""})
    else:
        output.table(("machine", "state", "provider", "box"), [(here.name, state, provider, name)])
    if state != "running":
        raise InfrastructureError(f"the machine is {state}", where=here.name, do="run ./inv vagrant.up")


@task(help={})
def ssh_config(context: Context) -> None:
    """Print the ssh-config of the machine, for ssh -F.

    Example: ./inv vagrant.ssh-config > machine.conf
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from machines import vagrant

    output.emit_text(vagrant.ssh_config(settings_from(context)).read_text(encoding="utf-8"))


@task(help={})
def destroy(context: Context) -> None:
    """Destroy the machine with all that was made for it. The built box stays in the cache.

    Example: ./inv vagrant.destroy
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from machines import vagrant

    settings = settings_from(context)
    with output.progress(f"machine {settings.vagrant.machine} is removed"):
        was = vagrant.destroy(settings)
    if not was:
        output.say("there was none")
