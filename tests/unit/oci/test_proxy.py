"""Proxies are those that Go's programs would use, and registries without a hosts.toml have the CAs of their folder."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from countersign.oci.errors import BadConfig, RegistryUnreachable
from countersign.oci.proxy import from_environment
from countersign.oci.registry import Registry
from tests.fake_registry import FakeRegistry

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [  # what golang.org/x/net/http/httpproxy 0.45 answered
        ("", "https://r.example/v2", False),
        ("", "https://localhost:5000/", True),
        ("", "https://127.0.0.1/", True),
        ("", "https://[::1]/", True),
        ("*", "https://r.example/v2", True),
        ("r.example", "https://R.EXAMPLE/", True),
        ("R.Example", "https://r.example/", True),
        ("r.example", "https://sub.r.example/", True),
        ("r.example", "https://other.example/", False),
        ("r.example", "https://notr.example/", False),
        (".r.example", "https://r.example/", False),
        (".r.example", "https://sub.r.example/", True),
        ("*.r.example", "https://r.example/", False),
        ("*.r.example", "https://sub.r.example/", True),
        ("r.example:443", "https://r.example/", True),
        ("r.example:8443", "https://r.example/", False),
        ("r.example:8443", "https://r.example:8443/", True),
        ("other, r.example ,x", "https://r.example/", True),
        ("10.0.0.0/8", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3/33", "https://10.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3/", True),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/", True),
        ("10.1.2.3:5000", "https://10.1.2.3/", False),
        ("fd00::1", "https://[fd00::1]:5000/", True),
        ("fd00::/16", "https://[fd00::2]/", True),
        ("[fd00::1]:5000", "https://[fd00::1]:5000/", True),
        ("[fd00::1]:5000", "https://[fd00::2]:5000/", False),
    ],
)
def test_what_no_proxy_covers(no_proxy: str, url: str, direct: bool) -> None:
    found = from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}).of(url)
    assert (found is None) == direct


def test_each_scheme_has_its_variable_and_capitals_go_first() -> None:
    environment = {"https_proxy": "small.example", "HTTP_PROXY": "https://plain.example", "http_proxy": PROXY}
    proxies = from_environment(environment)
    found = [proxies.of(f"{scheme}://r.example/") for scheme in ("https", "http")]
    assert [proxy.url for proxy in found if proxy] == ["http://small.example:80", "https://plain.example:443"]
    assert from_environment({}).of("https://r.example/") is None


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("socks5://proxy.example:1080", "socks5 is not supported"),
        ("http://me:hunter2@:x", "not a URL"),
        ("http://", "not a URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused(value: str, what: str) -> None:
    with pytest.raises(BadConfig, match=f"HTTPS_PROXY.*{what}") as caught:
        from_environment({"HTTPS_PROXY": value})
    assert "hunter2" not in str(caught.value)


@dataclass
class FakeProxy:
    """A proxy on loopback that connects everything to one server."""

    to: str
    netloc: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def proxy(authority: tuple[Path, FakeRegistry]) -> Iterator[FakeProxy]:
    fake = FakeProxy(authority[1].netloc)

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            fake.asked.append((self.path, self.headers.get("Proxy-Authorization", "")))
            if not self.path.startswith("r.example:"):
                self.send_error(403)
                return
            host, _, port = fake.to.rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=relay, args=(there, self.connection))
                back.start()
                relay(self.connection, there)
                back.join()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    fake.netloc = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while content := source.recv(1 << 16):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def folder_with(ca: Path, name: str) -> Path:
    """Return a certs.d whose folder of r.example has a CA and no hosts.toml."""
    folder = ca.parent / "certs.d" / "r.example"
    folder.mkdir(parents=True)
    shutil.copy(ca, folder / name)
    return folder.parent


def test_a_registry_is_reached_by_the_proxy_with_the_ca_of_its_folder(
    authority: tuple[Path, FakeRegistry], proxy: FakeProxy
) -> None:
    ca, server = authority
    proxies = from_environment({"HTTPS_PROXY": f"http://me:s%20cret@{proxy.netloc}"})
    what = Registry(folder_with(ca, "ca.crt"), proxies=proxies).put_blob("r.example/demo/app", b"content")
    assert server.blobs[what.digest] == b"content"
    assert set(proxy.asked) == {("r.example:443", "Basic bWU6cyBjcmV0")}


def test_without_that_ca_it_is_not_trusted(authority: tuple[Path, FakeRegistry], proxy: FakeProxy) -> None:
    ca, server = authority
    registry = Registry(folder_with(ca, "ca.txt"), proxies=from_environment({"HTTPS_PROXY": proxy.netloc}))
    with pytest.raises(RegistryUnreachable, match=r"certificate verify failed.*name its CA"):
        registry.put_blob("r.example/demo/app", b"content")
    assert server.requests == []


def test_a_proxy_that_refuses_is_named_without_its_login(
    authority: tuple[Path, FakeRegistry], proxy: FakeProxy
) -> None:
    registry = Registry(proxies=from_environment({"HTTPS_PROXY": f"http://me:hunter2@{proxy.netloc}"}))
    with pytest.raises(RegistryUnreachable, match=rf"403.*{proxy.netloc} of HTTPS_PROXY.*NO_PROXY") as caught:
        registry.put_blob("other.example/demo/app", b"content")
    assert "hunter2" not in str(caught.value)
    assert authority[1].requests == []
