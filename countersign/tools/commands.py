"""Tasks about outside tools."""

from __future__ import annotations

from invoke.context import Context

from countersign.console import output
from countersign.console.config import settings_from
from countersign.console.task import task


@task(name="list", help={"json": "write one JSON document to stdout"})
def list_(context: Context, json: bool = False) -> None:
    """Show every outside tool: what is wanted, where it is, its version.

    Builds nothing and uses no network.

    Example: ./inv tools.list --json
    """
    from countersign.tools.inventory import inventory

    rows = inventory(settings_from(context))
    if json:
        output.emit_json({"version": "countersign.tools/v1", "tools": [row.document() for row in rows]})
    else:
        output.table(("tool", "wanted", "where", "version"), (row.cells() for row in rows))


@task(
    iterable=["name"],
    help={"name": "a tool of `tools.list`; repeatable (default: all that set-up needs)"},
)
def install(context: Context, name: list[str] | None = None) -> None:
    """Get the outside tools: from PATH, the cache, or built here; the gate at its tag also as released.

    Example: ./inv tools.install --name containerd --name runc
    """
    from countersign.tools.inventory import usual_tools
    from countersign.tools.resolver import install as install_tools

    places = install_tools(name or usual_tools(), settings_from(context))
    output.table(("tool", "where"), places.items())
