from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from countersign.cri.api import api_pb2 as api
from countersign.cri.client import Client
from countersign.cri.errors import CriError
from countersign.cri.model import Auth, Container, Mount

REQUESTS = {"CreateContainer": api.CreateContainerRequest, "RunPodSandbox": api.RunPodSandboxRequest}


class Runtime(grpc.GenericRpcHandler):
    """A CRI runtime that keeps requests and answers as a test wants."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.authority = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        service, _, method = details.method.removeprefix("/runtime.v1.").partition("/")

        def answer(content: bytes, context: grpc.ServicerContext) -> bytes:
            request = getattr(api, f"{method}Request").FromString(content)
            self.requests.append((f"{service}.{method}", request))
            given = self.answers.get(method, getattr(api, f"{method}Response")())
            given = given(request) if callable(given) else given
            if isinstance(given, grpc.StatusCode):
                context.abort(given, "the runtime's own words")
            content = given.SerializeToString()
            assert isinstance(content, bytes)
            return content

        return grpc.unary_unary_rpc_method_handler(answer)

    def names(self) -> list[str]:
        return [name.partition(".")[2] for name, _ in self.requests]

    def last(self) -> Any:
        return self.requests[-1][1]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    fake = Runtime()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((fake,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    yield fake
    server.stop(None).wait()


@pytest.fixture
def client(runtime: Runtime, tmp_path: Path) -> Iterator[Client]:
    with Client(f"unix:{tmp_path}/s", cgroup_parent="/ours/pods", log_directory=str(tmp_path), timeout=5) as opened:
        yield opened


def containers(*states: str) -> Callable[[Any], Any]:
    left = list(states)

    def answer(request: Any) -> Any:
        state = left.pop(0) if len(left) > 1 else left[0]
        return api.ContainerStatusResponse(
            status=api.ContainerStatus(id=request.container_id, state=state, exit_code=4)
        )

    return answer


def test_each_service_has_its_own_methods(client, runtime):
    runtime.answers["Version"] = api.VersionResponse(runtime_name="containerd", runtime_version="2.4.2")
    assert (client.version().runtime, client.version().version) == ("containerd", "2.4.2")
    client.list_images()
    assert [name for name, _ in runtime.requests][-2:] == ["RuntimeService.Version", "ImageService.ListImages"]


def test_a_pull_says_what_was_written_and_by_whom(client, runtime):
    runtime.answers["PullImage"] = api.PullImageResponse(image_ref="sha256:1")
    assert client.pull("name:tag", Auth("user", "pass")) == "sha256:1"
    request = runtime.last()
    assert (request.image.image, request.image.user_specified_image) == ("name:tag", "name:tag")
    assert (request.auth.username, request.auth.password) == ("user", "pass")
    client.pull("name:tag")
    assert not runtime.last().HasField("auth")


def test_a_password_is_in_no_message():
    assert "pass" not in repr(Auth("user", "pass"))


def test_an_image_that_is_not_there_is_none(client, runtime):
    assert client.image_status("name") is None
    runtime.answers["ImageStatus"] = api.ImageStatusResponse(image=api.Image(id="sha256:1", repo_tags=["a:1"], size=5))
    assert (client.image_status("name").id, client.image_status("name").tags) == ("sha256:1", ("a:1",))


def test_a_refusal_carries_method_code_and_the_runtimes_words(client, runtime):
    runtime.answers["StartContainer"] = grpc.StatusCode.UNKNOWN
    with pytest.raises(CriError) as caught:
        client.start("c")
    error = caught.value
    assert (error.method, error.code, error.message) == ("StartContainer", "UNKNOWN", "the runtime's own words")
    assert (str(error), error.exit_code) == ("CRI StartContainer: UNKNOWN: the runtime's own words", 4)


def test_a_runtime_that_is_not_there_is_unavailable(tmp_path):
    with Client(f"unix:{tmp_path}/none") as client, pytest.raises(CriError) as caught:
        client.version()
    assert caught.value.code == "UNAVAILABLE"


def test_a_slow_runtime_meets_the_deadline(client, runtime):
    def slow(_: Any) -> Any:
        time.sleep(0.5)
        return api.VersionResponse()

    runtime.answers["Version"] = slow
    client._timeout = 0.1
    with pytest.raises(CriError) as caught:
        client.version()
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_pod_is_removed_however_the_block_ends(client, runtime):
    runtime.answers["RunPodSandbox"] = api.RunPodSandboxResponse(pod_sandbox_id="p1")
    with pytest.raises(ZeroDivisionError), client.pod(handler="runc-alt"):
        _ = 1 / 0
    assert runtime.names() == ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]
    request = next(found for name, found in runtime.requests if name.endswith("RunPodSandbox"))
    assert request.runtime_handler == "runc-alt"
    assert request.config.linux.cgroup_parent == "/ours/pods"
    spaces = request.config.linux.security_context.namespace_options
    assert (spaces.network, spaces.pid) == (api.NamespaceMode.POD, api.NamespaceMode.CONTAINER)


def test_all_pods_are_tried_when_one_stays(client, runtime):
    runtime.answers["ListPodSandbox"] = api.ListPodSandboxResponse(items=[api.PodSandbox(id=i) for i in "abc"])
    runtime.answers["RemovePodSandbox"] = lambda request: (
        grpc.StatusCode.INTERNAL if request.pod_sandbox_id == "b" else api.RemovePodSandboxResponse()
    )
    with pytest.raises(CriError, match="RemovePodSandbox: INTERNAL"):
        client.remove_pods()
    assert runtime.names().count("RemovePodSandbox") == 3


@pytest.mark.parametrize(
    ("container", "looked_up", "written"),
    [
        (Container("sha256:1", written="name:tag"), "sha256:1", "name:tag"),
        (Container("name:tag"), "name:tag", "name:tag"),
        (Container("sha256:1", written=""), "sha256:1", ""),
    ],
)
def test_a_container_is_created_as_the_kubelet_does(client, runtime, container, looked_up, written):
    runtime.answers["CreateContainer"] = api.CreateContainerResponse(container_id="c1")
    assert client.create(client.run_pod("name", "space"), container) == "c1"
    request = runtime.last()
    assert (request.config.image.image, request.config.image.user_specified_image) == (looked_up, written)
    assert request.sandbox_config.metadata.name == "name"
    assert request.sandbox_config.log_directory.endswith(f"space_name_{request.sandbox_config.metadata.uid}")
    assert request.config.log_path == "main_0.log"


def test_mounts_are_folders_and_images(client, runtime):
    folder = Mount("/a", host="/b", writable=True)
    volume = Mount("/v", image="sha256:1", image_written="name:tag")
    container = Container("i", command=("c",), args=("a",), env={"K": "v"}, mounts=(folder, volume))
    client.create(client.run_pod(), container)
    config = runtime.last().config
    assert (config.command[:], config.args[:], config.envs[0].value) == (["c"], ["a"], b"v")
    assert (config.mounts[0].host_path, config.mounts[0].readonly) == ("/b", False)
    assert not config.mounts[0].HasField("image")
    assert (config.mounts[1].image.image, config.mounts[1].image.user_specified_image) == ("sha256:1", "name:tag")
    assert (config.mounts[1].readonly, config.mounts[1].host_path) == (True, "")


def test_logs_are_read_where_the_runtime_says(client, runtime, tmp_path):
    log = tmp_path / "0.log"
    log.write_bytes(b"2026-01-01T00:00:00Z stdout P one \n2026-01-01T00:00:00Z stdout F line\n")
    status = api.ContainerStatus(id="c", log_path=str(log))
    runtime.answers["ContainerStatus"] = api.ContainerStatusResponse(status=status)
    assert client.logs("c") == b"one line\n"


def test_a_command_in_a_container_gives_both_streams(client, runtime):
    runtime.answers["ExecSync"] = api.ExecSyncResponse(stdout=b"o", stderr=b"e", exit_code=2)
    result = client.exec_sync("c", ["/demo", "get"], timeout=3)
    assert (result.code, result.stdout, result.stderr) == (2, b"o", b"e")
    assert (runtime.last().cmd[:], runtime.last().timeout) == (["/demo", "get"], 3)


def test_what_a_runtime_lacks_is_told(client, runtime):
    status = api.RuntimeStatus(
        conditions=[
            api.RuntimeCondition(type="RuntimeReady", status=True),
            api.RuntimeCondition(type="NetworkReady", status=False, reason="NoCNI", message="none"),
        ]
    )
    runtime.answers["Status"] = api.StatusResponse(status=status)
    assert client.conditions() == {"NetworkReady": "NoCNI: none"}
