"""What a node runs and has cached that would be refused, were a policy in force there: asked before set-up.

The gate's own ``audit`` judges, from a folder that is there as long as it takes; nothing else is put on the node.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement.layout import Layout

if TYPE_CHECKING:
    from countersign.nodes.node import Node

VERSION = "countersign.audit/v1"
FOLDER = "/var/lib"
"""Where the folder is made: programs may run from there, which /tmp and /run do not always allow."""
SECONDS = 600
"""How long an audit may take: some hundred images, each with registries that may not answer."""
NO_SCOPE = "no scope"


@dataclass(frozen=True)
class AuditRequest:
    """What a node is asked by.

    Attributes:
        layout: where the gate will lie; one that lies there already has evidence that counts.
        program: the gate's binary on this machine.
        policy: the rendered policy, with the pins of set-up.
        docker_config: registry credentials that the gate will have.
        runtime: the runtime.
        socket: its own socket on the node; empty for the usual one.
    """

    layout: Layout
    program: Path
    policy: bytes = field(repr=False)
    docker_config: bytes = field(repr=False)
    runtime: str
    socket: str = ""


def audit(node: Node, request: AuditRequest) -> dict[str, Any]:
    """Return what the gate's ``audit --json`` says on a node (``countersign.audit/v1``).

    Raises:
        InfrastructureError: it could not be asked, or said something else.
    """
    folder = node.run(["mktemp", "-d", "-p", FOLDER, "countersign-plan-XXXXXXXX"]).text
    try:
        program = f"{folder}/countersign-gate"
        node.put(request.program, program, 0o700)
        node.put(request.policy, f"{folder}/policy.json", 0o600)
        argv = [program, "audit", "--json", "--images", "--online", "--policy", f"{folder}/policy.json"]
        if node.exists(request.layout.gate_config):
            argv += ["--config", request.layout.gate_config]
        else:
            node.put(request.docker_config, f"{folder}/docker.json", 0o600)
            argv += ["--runtime", request.runtime, "--docker-config", f"{folder}/docker.json"]
            argv += ["--socket", request.socket] if request.socket else []
            argv += ["--certs-dir", request.layout.certs] if node.exists(request.layout.certs) else []
        ended = node.run(argv, check=False, timeout=SECONDS, env={"TMPDIR": folder})
    finally:
        node.run(["rm", "-rf", "--", folder])
    if ended.code not in (0, 1):
        why = ended.stderr.decode(errors="replace").strip() or f"exit code {ended.code}"
        raise InfrastructureError(f"not known what would be refused: {why}", where=f"{node.name}: {shlex.join(argv)}")
    try:
        found: dict[str, Any] = json.loads(ended.stdout)
        version = found["version"]
    except (ValueError, TypeError, KeyError):
        version = None
    if version != VERSION:
        raise InfrastructureError(f"said {version!r}", where=f"{node.name}: {shlex.join(argv)}", expected=VERSION)
    return found


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what would be refused for a person: by scope, each with the line of policy that would allow it."""
    running, cached = found["containers"], found.get("images") or []
    refused = [each for each in (*running, *cached) if not each["allow"]]
    yield (
        f"with this policy {_of(running)} running containers and {_of(cached)} cached images would be refused"
        if refused
        else f"with this policy none of {len(running)} running containers and {len(cached)} cached images is refused"
    )
    for scope in sorted({each.get("scope") or NO_SCOPE for each in refused}):
        yield f"  {scope}:"
        for each in refused:
            if (each.get("scope") or NO_SCOPE) == scope:
                yield f"    {_what(each)}: {each['code']}"
                if each.get("remedy"):
                    yield f"      would be allowed by {each['remedy']}"
    if found["notJudged"]:
        yield f"  {found['notJudged']} more were not judged"


def _of(entries: list[dict[str, Any]]) -> str:
    return f"{sum(not each['allow'] for each in entries)} of {len(entries)}"


def _what(each: Mapping[str, Any]) -> str:
    if not each.get("container"):
        return f"cached {each['image']}"
    return f"running {each.get('namespace', '')}/{each.get('pod', '')}/{each.get('name', '')}: {each['image']}"


def show(node: Node, request: AuditRequest) -> None:
    """Say what would be refused on a node; that it cannot be known is a warning, for a plan changes nothing."""
    from countersign.console import output

    try:
        for line in lines(audit(node, request)):
            output.say(f"{node.name}: {line}")
    except InfrastructureError as error:
        output.warn(str(error))
