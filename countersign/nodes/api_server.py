"""A cluster's API server, through the kubernetes library: the few questions and commands that we have for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

CALL = 15
"""Seconds for one call."""
PAGE = 500
"""Objects of one answer."""
BAD_REQUEST, NOT_FOUND = 400, 404


@dataclass(frozen=True)
class ApiServer:
    """The API server of a cluster, as its administrator."""

    client: ApiClient

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        """Return all pods of a namespace."""
        return self._list(f"/api/v1/namespaces/{namespace}/pods")

    @property
    def address(self) -> str:
        """Its URL."""
        return str(self.client.configuration.host)

    def paged(self, path: str, most: int) -> tuple[list[dict[str, Any]], bool]:
        """Return at most so many objects of a list at an API path, and whether there are more."""
        found: list[dict[str, Any]] = []
        query: list[tuple[str, Any]] = [("limit", PAGE)]
        with _errors(path):
            while True:
                page = self._call(path, "GET", query)
                found += page["items"]
                following = str((page.get("metadata") or {}).get("continue") or "")
                if not following or len(found) >= most:
                    return found[:most], bool(following) or len(found) > most
                query = [("limit", PAGE), ("continue", following)]

    def nodes(self) -> list[dict[str, Any]]:
        """Return all nodes."""
        return self._list("/api/v1/nodes")

    def create(self, document: Mapping[str, Any]) -> None:
        """Create an object."""
        from kubernetes import utils

        with _errors(f"{document['kind']} {document['metadata']['name']}"):
            utils.create_from_dict(self.client, dict(document))  # type: ignore[no-untyped-call]

    def add_ephemeral(self, namespace: str, pod: str, container: Mapping[str, Any]) -> None:
        """Add an ephemeral container to a running pod, as ``kubectl debug`` does."""
        from kubernetes.client import CoreV1Api

        body = {"spec": {"ephemeralContainers": [dict(container)]}}
        with _errors(f"ephemeral container in {pod}"):
            CoreV1Api(self.client).patch_namespaced_pod_ephemeralcontainers(pod, namespace, body, _request_timeout=CALL)

    def delete(self, path: str) -> None:
        """Delete the object at an API path; one that is gone is not an error."""
        from kubernetes.client.exceptions import ApiException

        try:
            self._call(path, "DELETE")
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise InfrastructureError(f"could not be deleted: {error.reason}", where=path) from None

    def exists(self, path: str) -> bool:
        """Return whether there is an object at an API path."""
        from kubernetes.client.exceptions import ApiException

        try:
            self._call(path, "GET")
        except ApiException as error:
            if error.status == NOT_FOUND:
                return False
            raise InfrastructureError(f"could not be read: {error.reason}", where=path) from None
        return True

    def _list(self, path: str) -> list[dict[str, Any]]:
        with _errors(path):
            items: list[dict[str, Any]] = self._call(path, "GET")["items"]
        return items

    def _call(self, path: str, method: str, query: Sequence[tuple[str, Any]] = ()) -> dict[str, Any]:
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json"}
        prepared = self.client.param_serialize(
            method, path, query_params=list(query), header_params=headers, auth_settings=["BearerToken"]
        )
        response = self.client.call_api(*prepared, _request_timeout=CALL)
        body: bytes = response.read() or b""  # type: ignore[no-untyped-call]
        if response.status >= BAD_REQUEST:
            raise ApiException(status=response.status, reason=response.reason, body=body.decode(errors="replace"))
        found: dict[str, Any] = json.loads(body)
        return found


def connect(kubeconfig: Path) -> ApiServer:
    """Return the API server that a kubeconfig leads to.

    Raises:
        UsageError: it is not a kubeconfig.
    """
    from kubernetes import config

    try:
        return ApiServer(config.new_client_from_config(str(kubeconfig)))  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise UsageError(f"is not a kubeconfig ({error})", where=str(kubeconfig), do="give --kubeconfig") from None


def wait_for(condition: Callable[[], bool], otherwise: str, within: float, pause: float = 0.3) -> None:
    """Return once ``condition`` holds; an API server that does not answer meanwhile is waited for too.

    Raises:
        InfrastructureError: it did not within so many seconds.
    """
    deadline = time.monotonic() + within
    last = ""
    while True:
        try:
            if condition():
                return
        except InfrastructureError as error:
            last = f": {error}"
        if time.monotonic() > deadline:
            raise InfrastructureError(f"{otherwise} within {within:g} s{last}")
        time.sleep(pause)


def ready(document: Mapping[str, Any]) -> bool:
    """Return whether a node or pod has the condition Ready."""
    conditions: Sequence[Mapping[str, Any]] = document.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@contextmanager
def _errors(what: str) -> Iterator[None]:
    from kubernetes.client.exceptions import ApiException
    from kubernetes.utils import FailToCreateError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except FailToCreateError as error:
        reasons = "; ".join(str(json.loads(each.body).get("message", each.reason)) for each in error.api_exceptions)
        raise InfrastructureError(f"the API server refused it: {reasons}", where=what) from None
    except ApiException as error:
        raise InfrastructureError(f"the API server refused it: {error.reason}", where=what) from None
    except HTTPError as error:
        raise InfrastructureError(f"the API server does not answer ({error})", where=what) from None
