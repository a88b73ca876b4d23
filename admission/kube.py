"""The cluster as its administrator sees it: kubectl on the control plane, and the Python library for dry runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.enforcement.refusal import code_of
from countersign.nodes.api_server import connect
from countersign.nodes.node import CommandError, Node

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
APPLY = 120
"""Seconds; definitions of resources are large."""
CALL = 40
"""Seconds for one creation; the webhook has 20 of them."""
DENIED = re.compile(r'^admission webhook "[^"]+" denied the request: ')


@dataclass(frozen=True)
class Answer:
    """What the API server said to the creation of a pod: whether it takes it, and why not."""

    allow: bool
    message: str = ""

    @property
    def code(self) -> str:
        """The reason code in the message, if there is one."""
        return code_of(self.message)


@dataclass(frozen=True)
class Kube:
    """A cluster.

    Attributes:
        node: its control plane, which has kubectl.
        kubeconfig: of an administrator, on this machine.
    """

    node: Node = field(repr=False)
    kubeconfig: Path

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return an object, or None when there is none, or no such kind."""
        where = [f"--namespace={namespace}"] if namespace else []
        result = self.node.run([*KUBECTL, "get", kind, name, *where, "--output=json"], check=False)
        if result.code == 0:
            found: dict[str, Any] = json.loads(result.stdout)
            return found
        reason = result.stderr.decode(errors="replace")
        if "NotFound" in reason or "doesn't have a resource type" in reason:
            return None
        raise CommandError(result, self.node.name)

    def every(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind, those of a namespace where one is given."""
        where = [f"--namespace={namespace}"] if namespace else []
        result = self.node.run([*KUBECTL, "get", kind, *where, "--output=json"])
        found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
        return found

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Make objects be as they are written, in order; what others set in them stays."""
        argv = [*KUBECTL, "apply", "--server-side", "--force-conflicts", "--field-manager=countersign", "--filename=-"]
        self.node.run(argv, input=_listed(documents), timeout=APPLY)

    def delete(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Delete objects, and wait until they are gone; none is not an error."""
        argv = [*KUBECTL, "delete", "--ignore-not-found", "--filename=-", f"--timeout={APPLY}s"]
        self.node.run(argv, input=_listed(documents), timeout=2 * APPLY)

    def delete_labelled(self, kinds: str, label: str) -> None:
        """Delete every object of these kinds that has a label."""
        self.node.run([*KUBECTL, "delete", kinds, f"--selector={label}", "--ignore-not-found"], timeout=APPLY)

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        """Return the pods of a namespace."""
        return connect(self.kubeconfig).pods(namespace)

    def client(self) -> ApiClient:
        """Return a client of the Python library."""
        return connect(self.kubeconfig).client


def create_pod(client: ApiClient, pod: Mapping[str, Any], *, dry_run: bool) -> Answer:
    """Ask the API server to create a pod, with all its webhooks, and return what it says.

    Raises:
        InfrastructureError: no verdict: the API server, or a webhook, did not answer.
    """
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    name = f"pod {pod['metadata']['name']}"
    body: Any = pod  # the library takes plain data too
    dry: dict[str, Any] = {"dry_run": "All"} if dry_run else {}
    try:
        CoreV1Api(client).create_namespaced_pod(pod["metadata"]["namespace"], body, _request_timeout=CALL, **dry)
    except ApiException as error:
        message = _message(error.body) or str(error.reason)
        if DENIED.match(message):
            return Answer(allow=False, message=" ".join(DENIED.sub("", message).split()))
        raise InfrastructureError(f"no verdict: {message}", where=name) from None
    except HTTPError as error:
        raise InfrastructureError(f"the API server does not answer ({error})", where=name) from None
    return Answer(allow=True)


def _message(body: str | bytes | None) -> str:
    try:
        return str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _listed(documents: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}).encode()
