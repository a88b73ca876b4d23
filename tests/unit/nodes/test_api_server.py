"""The one client of a cluster's API server: what it reads, what is not there, and what went wrong in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from containerd.pins import SYSTEM_NAMESPACES, system_images
from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.api_server import ApiServer, connect, ready, wait_for

PODS = "/api/v1/namespaces/kube-system/pods"
POD = {
    "metadata": {"name": "p"},
    "spec": {"containers": [{"image": "r.test/a:1"}], "initContainers": [{"image": "r.test/b:1"}]},
}
REFUSED = {"kind": "Status", "status": "Failure", "message": "namespace n is being deleted", "code": 403}


class Server(ThreadingHTTPServer):
    """An API server that has these objects, and remembers what was asked of it."""

    objects: dict[str, Any]
    asked: list[tuple[str, str]]


class Answers(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        found: Any = REFUSED if self.command == "POST" else self.server.objects.get(path)
        content = json.dumps(found or {}).encode()
        self.send_response(404 if found is None else int(found.get("code", 200)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_DELETE = do_POST = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    """An API server of this test's own."""
    made = Server(("127.0.0.1", 0), Answers)
    made.objects, made.asked = {f"/api/v1/namespaces/{name}/pods": {"items": []} for name in SYSTEM_NAMESPACES}, []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    """What leads to it."""
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    return path


@pytest.fixture
def api(kubeconfig: Path) -> ApiServer:
    """The client."""
    return connect(kubeconfig)


def test_pods_are_read_and_their_images_are_those_of_init_containers_too(
    server: Server, api: ApiServer, kubeconfig: Path
) -> None:
    server.objects[PODS] = {"items": [POD]}
    assert api.pods("kube-system") == [POD]
    assert system_images(kubeconfig) == ["r.test/a:1", "r.test/b:1"]


def test_what_is_there_exists_and_what_is_gone_need_not_be_deleted(server: Server, api: ApiServer) -> None:
    server.objects["/api/v1/namespaces/n"] = {"kind": "Namespace"}
    assert api.exists("/api/v1/namespaces/n")
    assert not api.exists("/api/v1/namespaces/m")
    api.delete("/api/v1/namespaces/m")
    assert server.asked[-1] == ("DELETE", "/api/v1/namespaces/m")


def test_what_the_server_refuses_is_told_in_its_own_words(api: ApiServer) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}}
    with pytest.raises(InfrastructureError, match="Pod p: the API server refused it: namespace n is being deleted"):
        api.create(pod)


@pytest.mark.parametrize("path", ["/api/v1/namespaces/n"])
def test_another_error_is_not_taken_for_absence(server: Server, api: ApiServer, path: str) -> None:
    server.objects[path] = REFUSED
    with pytest.raises(InfrastructureError, match="could not be read"):
        api.exists(path)
    with pytest.raises(InfrastructureError, match="could not be deleted"):
        api.delete(path)


def test_a_server_that_does_not_answer_is_told(server: Server, api: ApiServer) -> None:
    server.socket.close()
    with pytest.raises(InfrastructureError, match="the API server does not answer"):
        api.pods("kube-system")


def test_a_kubeconfig_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    with pytest.raises(UsageError, match="is not a kubeconfig"):
        connect(tmp_path / "kubeconfig")


@pytest.mark.parametrize(("status", "is_ready"), [("True", True), ("False", False)])
def test_ready_is_the_condition_of_that_name(status: str, is_ready: bool) -> None:
    assert ready({"status": {"conditions": [{"type": "Ready", "status": status}]}}) is is_ready
    assert not ready({"status": {}})


def test_a_server_that_is_away_meanwhile_is_waited_for_and_told_in_the_end() -> None:
    answers = iter([False, True])

    def away() -> bool:
        if next(answers):
            return True
        raise InfrastructureError("is away")

    wait_for(away, "it was not back", 5, pause=0.01)

    def gone() -> bool:
        raise InfrastructureError("is away")

    with pytest.raises(InfrastructureError, match="it was not back within 0 s: is away"):
        wait_for(gone, "it was not back", 0)
