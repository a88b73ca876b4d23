"""Requests are bounded, logins go where they belong and nowhere else, and every failure has its own error."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from countersign.oci.errors import BadConfig, Malformed, RegistryAuth, RegistryError, RegistryUnreachable
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from tests.fake_registry import FakeRegistry, Reply, Request, serving
from tests.images import push_image


def config(tmp_path: Path, server: str, password: str = "secret") -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {server: {"username": "me", "password": password}}}))
    return path


@pytest.fixture(params=["basic", "bearer"])
def locked(request: pytest.FixtureRequest, fake: FakeRegistry) -> FakeRegistry:
    """A registry with an image, that wants a login."""
    push_image(Registry(), fake.name(), "v1")
    fake.requests.clear()
    fake.auth = request.param
    return fake


def test_a_login_is_used_when_it_is_asked_for(locked: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry(docker_config=config(tmp_path, locked.netloc))
    assert registry.resolve(parse(f"{locked.name()}:v1")).size > 0
    first, *_ = locked.requests
    assert "authorization" not in first.headers


def test_a_login_lasts_for_later_requests(locked: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry(docker_config=config(tmp_path, locked.netloc))
    registry.resolve(parse(f"{locked.name()}:v1"))
    before = len(locked.requests)
    registry.resolve(parse(f"{locked.name()}:v1"))
    assert len(locked.requests) == before + 1


def test_content_is_pushed_with_a_login(locked: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry(docker_config=config(tmp_path, locked.netloc))
    what = registry.put_blob(locked.name(), b"content")
    assert locked.blobs[what.digest] == b"content"


def test_a_wrong_password_is_an_auth_error(locked: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry(docker_config=config(tmp_path, locked.netloc, "hunter2"))
    with pytest.raises(RegistryAuth) as caught:
        registry.resolve(parse(f"{locked.name()}:v1"))
    assert caught.value.code == "REGISTRY_AUTH"
    assert "hunter2" not in str(caught.value)


def test_no_login_is_an_auth_error(locked: FakeRegistry) -> None:
    with pytest.raises(RegistryAuth):
        Registry().resolve(parse(f"{locked.name()}:v1"))


def test_the_scope_that_the_challenge_names_is_asked_for(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth = "bearer"
    Registry(docker_config=config(tmp_path, fake.netloc)).put_blob(fake.name(), b"x")
    (token,) = fake.asked("GET", "/token")
    assert token.query == {"service": ["fake"], "scope": ["repository:demo/app:pull,push"]}


def test_a_token_server_on_plain_http_elsewhere_gets_no_password(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.auth, fake.realm = "bearer", "http://token.example/token"
    with pytest.raises(RegistryError, match=r"sends us to http://token\.example") as caught:
        Registry(docker_config=config(tmp_path, fake.netloc)).put_blob(fake.name(), b"x")
    assert caught.value.code == "REGISTRY_ERROR"


@pytest.mark.parametrize("answer", [b"[]", b"{}", b"no", json.dumps({"token": "a\nb"}).encode()])
def test_a_token_servers_nonsense(fake: FakeRegistry, tmp_path: Path, answer: bytes) -> None:
    fake.auth = "bearer"
    fake.faults.append(lambda request: Reply(200, answer) if request.path == "/token" else None)
    with pytest.raises(RegistryError, match="token server"):
        Registry(docker_config=config(tmp_path, fake.netloc)).put_blob(fake.name(), b"x")


def test_an_unknown_challenge(fake: FakeRegistry) -> None:
    fake.faults.append(lambda _: Reply(401, headers={"WWW-Authenticate": "Negotiate"}))
    with pytest.raises(RegistryAuth, match="Negotiate"):
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 10)


@pytest.mark.parametrize("challenge", ["Bearer", 'Bearer service="x"', 'Bearer realm=""'])
def test_a_challenge_without_a_token_server(fake: FakeRegistry, challenge: str) -> None:
    fake.faults.append(lambda _: Reply(401, headers={"WWW-Authenticate": challenge}))
    with pytest.raises(RegistryAuth, match="without a realm"):
        Registry().resolve(parse(f"{fake.name()}:v1"))
    assert len(fake.requests) == 1


def redirect(to: str) -> Reply:
    return Reply(307, headers={"Location": to})


def test_a_redirect_elsewhere_gets_no_login(fake: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry(docker_config=config(tmp_path, fake.netloc))
    what = registry.put_blob(fake.name(), b"content")
    with serving() as other:
        other.blobs[what.digest] = b"content"
        fake.auth = "basic"

        def send_away(request: Request) -> Reply | None:
            away = request.headers.get("authorization") and request.method == "GET"
            return redirect(f"http://{other.netloc}{request.path}") if away else None

        fake.faults.append(send_away)
        assert registry.blob(fake.name(), what.digest, 100) == b"content"
        (seen,) = other.requests
    assert "authorization" not in seen.headers


def test_redirects_have_an_end(fake: FakeRegistry) -> None:
    fake.faults.append(lambda request: redirect(request.path))
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 10)
    assert len(fake.requests) == 6


@pytest.mark.parametrize("target", ["http://other.example/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_where_we_must_not_go(fake: FakeRegistry, target: str) -> None:
    fake.faults.append(lambda _: redirect(target))
    with pytest.raises(RegistryError, match="sends us to"):
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 10)


@pytest.mark.parametrize("target", ["http://[::1", "http://127.0.0.1:99999/"])
def test_a_redirect_to_what_is_no_url(fake: FakeRegistry, target: str) -> None:
    fake.faults.append(lambda _: redirect(target))
    with pytest.raises(RegistryError, match="which is not a URL"):
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 10)


def test_an_upload_is_not_sent_to_plain_http_elsewhere(fake: FakeRegistry) -> None:
    elsewhere = Reply(202, headers={"Location": "http://other.example/upload"})
    fake.faults.append(lambda request: elsewhere if request.method == "POST" else None)
    with pytest.raises(RegistryError, match=r"sends us to http://other\.example"):
        Registry().put_blob(fake.name(), b"x")


def test_a_body_over_its_bound(fake: FakeRegistry) -> None:
    registry = Registry()
    what = registry.put_blob(fake.name(), b"12345")
    assert registry.blob(fake.name(), what.digest, 5) == b"12345"
    with pytest.raises(Malformed, match="more than 4 bytes") as caught:
        registry.blob(fake.name(), what.digest, 4)
    assert caught.value.code == "MALFORMED"


def test_after_a_body_over_its_bound_the_next_answer_is_right(fake: FakeRegistry) -> None:
    registry = Registry()
    large = registry.put_blob(fake.name(), b"x" * 1_000_000)
    small = registry.put_blob(fake.name(), b"small")
    with pytest.raises(Malformed):
        registry.blob(fake.name(), large.digest, 10)
    assert registry.blob(fake.name(), small.digest, 10) == b"small"


def test_a_body_that_trickles_does_not_outlast_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next byte never comes, and the first is not kept waiting for it."""
    monkeypatch.setattr("countersign.oci.transport._DEADLINE", -1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=_one_byte, args=(server,))
        answering.start()
        with pytest.raises(RegistryUnreachable, match="no whole answer in -1 s"):
            Registry().blob(f"127.0.0.1:{server.getsockname()[1]}/a", "sha256:" + "0" * 64, 10)
        answering.join()


def _one_byte(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        connection.recv(1)  # until the client has gone


def test_a_body_cut_short(fake: FakeRegistry) -> None:
    fake.faults.append(lambda _: Reply(200, b"short", {"Content-Length": "100", "Connection": "close"}))
    with pytest.raises(RegistryUnreachable, match=r": Connection broken: IncompleteRead\([^()]*\)$"):
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 1000)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(RegistryUnreachable, match="Connection refused") as caught:
            Registry().blob(f"127.0.0.1:{port}/demo", "sha256:" + "a" * 64, 10)
    assert caught.value.code == "NO_EVIDENCE_OFFLINE"
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_error_of_the_registry(fake: FakeRegistry, status: int) -> None:
    fake.faults.append(lambda _: Reply(status, b"busy"))
    with pytest.raises(RegistryError, match=f"{status} busy") as caught:
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 10)
    assert caught.value.code == "REGISTRY_ERROR"


def test_403_is_an_auth_error_with_the_registrys_own_words(fake: FakeRegistry) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "not yours"}]}).encode()
    fake.faults.append(lambda _: Reply(403, body))
    with pytest.raises(RegistryAuth, match=r"403 .* DENIED: not yours"):
        Registry().blob(fake.name(), "sha256:" + "a" * 64, 10)


def hosts(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "certs.d" / "r.example"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(text)
    return tmp_path / "certs.d"


def test_tls_under_an_own_ca(authority: tuple[Path, FakeRegistry], tmp_path: Path) -> None:
    ca, server = authority
    folder = hosts(tmp_path, f'server = "https://{server.netloc}"\nca = "{ca}"\n')
    what = Registry(folder).put_blob("r.example/demo/app", b"content")
    assert server.blobs[what.digest] == b"content"


def test_tls_under_an_unknown_ca(authority: tuple[Path, FakeRegistry], tmp_path: Path) -> None:
    _, server = authority
    folder = hosts(tmp_path, f'server = "https://{server.netloc}"\n')
    with pytest.raises(RegistryUnreachable, match=r"certificate verify failed.*name its CA"):
        Registry(folder).put_blob("r.example/demo/app", b"content")
    assert server.requests == []


@pytest.mark.parametrize("content", [None, "no PEM"])
def test_a_ca_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    folder = hosts(tmp_path, f'server = "https://127.0.0.1:1"\nca = "{tmp_path}/ca.pem"\n')
    with pytest.raises(BadConfig, match="cannot be used as a CA"):
        Registry(folder).put_blob("r.example/demo/app", b"content")


def test_a_challenge_from_where_we_were_redirected_to_is_not_answered(fake: FakeRegistry, tmp_path: Path) -> None:
    with serving() as thief:
        thief.auth = "bearer"
        fake.faults.append(lambda request: redirect(f"http://{thief.netloc}{request.path}"))
        with pytest.raises(RegistryAuth, match=thief.netloc):
            Registry(docker_config=config(tmp_path, fake.netloc)).blob(fake.name(), "sha256:" + "a" * 64, 10)
        assert [one.path for one in thief.requests] == ["/v2/demo/app/blobs/sha256:" + "a" * 64]
