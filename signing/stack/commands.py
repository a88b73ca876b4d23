"""Tasks: start, stop and show a private Sigstore on loopback, and give identities in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from countersign.console.config import settings_from
from countersign.console.errors import InfrastructureError, UsageError
from countersign.console.output import done, emit_json, failed, say, skipped
from countersign.console.task import task

if TYPE_CHECKING:
    from signing.stack.place import Stack

_JSON = "one JSON document on stdout"


@task(help={"plan": "list what would be done, and change nothing", "json": _JSON})
def start(context: Context, plan: bool = False, json: bool = False) -> None:
    """Start a private Sigstore on loopback: Fulcio, a log of certificates, Rekor v2 and v1, timestamps, an issuer.

    Example: ./inv signing.stack.start
    """
    from countersign.console.steps import run_steps
    from countersign.tools.resolver import find as found
    from countersign.tools.resolver import install
    from signing.stack import place, services

    settings = settings_from(context)
    stack = place.find(settings)
    down = {state.name for state in services.states(stack) if state.child is None}
    place.check_ports(stack, {name: services.LISTENERS[name] for name in services.NAMES if name in down})
    if plan:
        for name in (name for name in services.TOOLS if found(name, settings) is None):
            say(f"would: build {name}")
        programs = {
            name: Path(name) if (there := found(name, settings)) is None else there.path for name in services.TOOLS
        }
    else:
        programs = install(services.TOOLS, settings)
    try:
        run_steps(services.steps(stack, programs), plan=plan)
    except BaseException:
        services.stop(stack, down)
        raise
    if not plan:
        _show_files(stack)
    if json:
        emit_json(_document(stack))


@task(
    help={
        "delete": "also delete all that it has: keys, logs, and with them whatever trusts it",
        "json": _JSON,
    }
)
def stop(context: Context, delete: bool = False, json: bool = False) -> None:
    """Stop the private Sigstore; keys and logs stay for the next start.

    Example: ./inv signing.stack.stop
    """
    import shutil

    from signing.stack import place, services

    stack = place.find(settings_from(context))
    stopped = services.stop(stack)
    done(f"stopped: {', '.join(stopped)}") if stopped else skipped("nothing runs")
    deleted = delete and stack.folder.exists()
    if deleted:
        shutil.rmtree(stack.folder)
        done(f"deleted: {stack.folder}")
    if json:
        emit_json({"version": "countersign.stack-stopped/v1", "stopped": stopped, "deleted": deleted})


@task(help={"json": _JSON})
def status(context: Context, json: bool = False) -> None:
    """Show whether the private Sigstore runs, and where; exit code 4 when one of its services is down.

    Example: ./inv signing.stack.status
    """
    from signing.stack import place, services

    stack = place.require(settings_from(context))
    down = []
    for state in services.states(stack):
        if state.state == "running":
            done(f"{state.name} {stack.url(state.name)}")
        else:
            down.append(state.name)
            failed(f"{state.name} is {state.state}{f': {state.reason}' if state.reason else ''}")
    _show_files(stack)
    if json:
        emit_json(_document(stack))
    if down:
        raise InfrastructureError(
            f"{', '.join(down)} not running", where=str(stack.folder), do="start it: ./inv signing.stack.start"
        )


@task(
    help={
        "subject": "whose: an e-mail address, or a workflow's URI as GitHub Actions names them",
        "out": "file to write, mode 0600",
        "json": _JSON,
    }
)
def token(context: Context, subject: str = "", out: str = "", json: bool = False) -> None:
    """Write an identity token of the private Sigstore, good for ten minutes, into a file.

    Example: ./inv signing.stack.token --subject release@acme.example --out token
    """
    from countersign.console import whole
    from signing.stack import place
    from signing.stack import token as tokens

    if not subject or not out:
        raise UsageError("--subject or --out is missing", do="see --help")
    stack = place.require(settings_from(context))
    path = Path(out).expanduser().absolute()
    whole.write(path, tokens.mint(stack, subject).encode(), 0o600)
    issuer = tokens.claims(stack, subject, 0)["iss"]
    done(f"{path}: {subject} by {issuer}, for {tokens.LIFETIME // 60} minutes")
    if json:
        emit_json({"version": "countersign.token/v1", "file": str(path), "subject": subject, "issuer": issuer})


def _show_files(stack: Stack) -> None:
    for what, path in _files(stack).items():
        say(f"{what}: {path}")


def _files(stack: Stack) -> dict[str, Path]:
    return {
        "trusted root": stack.trusted_root,
        "signing config": stack.signing_config,
        "trust config": stack.trust_config,
    }


def _document(stack: Stack) -> dict[str, Any]:
    from signing.stack import services

    return {
        "version": "countersign.stack/v1",
        "folder": str(stack.folder),
        "services": [
            {"name": each.name, "state": each.state, "url": stack.url(each.name), "restarts": each.restarts}
            for each in services.states(stack)
        ],
        "issuers": {"mail": stack.mail_issuer, "workflows": stack.workflow_issuer},
        "trustedRoot": str(stack.trusted_root),
        "signingConfig": str(stack.signing_config),
        "trustConfig": str(stack.trust_config),
    }
