"""Which files have the logins, and what a registry and its token server get of them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from countersign.console.config import RegistrySettings, Settings
from countersign.enforcement.reach import docker_config
from countersign.oci.access import credential_files, registry
from countersign.oci.errors import RegistryAuth
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from lab.demo.registries import FALLBACK, REFERRERS, load_or_make
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.images import push_image

REFRESH = {"auth": base64.b64encode(b"0000:").decode(), "identitytoken": "the-refresh-token"}


def written(path: Path, auths: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": auths}))
    return path


def entry(user: str, password: str = "secret") -> dict[str, str]:
    return {"username": user, "password": password}


@pytest.mark.parametrize(
    ("there", "environ", "found"),
    [
        (["home/.docker/config.json"], {}, ["home/.docker/config.json"]),
        (["home/.docker/config.json", "d/config.json"], {"DOCKER_CONFIG": "d"}, ["d/config.json"]),
        (["home/.docker/config.json"], {"DOCKER_CONFIG": "d"}, []),
        (
            ["run/containers/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json"],
            {"XDG_RUNTIME_DIR": "run"},
            ["run/containers/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json"],
        ),
        (
            ["x/containers/auth.json", "home/.config/containers/auth.json"],
            {"XDG_CONFIG_HOME": "x"},
            ["x/containers/auth.json"],
        ),
        (["f.json", "home/.docker/config.json"], {"REGISTRY_AUTH_FILE": "f.json"}, ["f.json"]),
        (["home/.docker/config.json"], {"REGISTRY_AUTH_FILE": "f.json"}, ["f.json"]),
        ([], {}, []),
    ],
)
def test_files_are_looked_for_as_the_tools_do(
    tmp_path: Path, there: list[str], environ: dict[str, str], found: list[str]
) -> None:
    for name in there:
        written(tmp_path / name, {})
    absolute = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "none")}
    absolute |= {name: str(tmp_path / value) for name, value in environ.items()}
    assert credential_files(absolute) == [tmp_path / name for name in found]


@pytest.fixture
def robots(fake: FakeRegistry) -> FakeRegistry:
    """A registry with a robot account for each organisation."""

    def ask(request: Request) -> Reply | None:
        organisation = re.match(r"/v2/(org-[ab])/", request.path)
        user = f"{organisation[1] if organisation else ''}+robot:secret"
        if request.headers.get("authorization") == "Basic " + base64.b64encode(user.encode()).decode():
            return None
        return Reply(401, headers={"WWW-Authenticate": 'Basic realm="robots"'})

    for organisation in ("org-a", "org-b"):
        push_image(Registry(), fake.name(f"{organisation}/app"), "v1")
    fake.faults.append(ask)
    return fake


def test_two_logins_at_one_registry(robots: FakeRegistry, tmp_path: Path) -> None:
    auths = {f"{robots.netloc}/{name}": entry(f"{name}+robot") for name in ("org-a", "org-b")}
    client = Registry(docker_config=written(tmp_path / "config.json", auths))
    for name in ("org-a", "org-b", "org-a"):
        assert client.resolve(parse(f"{robots.name(f'{name}/app')}:v1")).size > 0
    assert client.logins == [f"{tmp_path}/config.json: auths.{robots.netloc}/{name}" for name in ("org-a", "org-b")]


def test_a_broken_entry_of_another_registry_harms_nothing(robots: FakeRegistry, tmp_path: Path) -> None:
    broken = {"auth": base64.b64encode(b"username\n").decode()}
    known = written(tmp_path / "config.json", {"quay.io": broken, robots.netloc: entry("org-a+robot")})
    assert Registry(docker_config=known).resolve(parse(f"{robots.name('org-a/app')}:v1")).size > 0
    own = written(tmp_path / "config.json", {robots.netloc: broken})
    with pytest.raises(RegistryAuth, match=f"auths.{robots.netloc}: auth is not base64"):
        Registry(docker_config=own).resolve(parse(f"{robots.name('org-a/app')}:v1"))


@pytest.fixture
def refreshing(fake: FakeRegistry) -> FakeRegistry:
    """A registry whose token server takes a refresh token, by POST only."""
    push_image(Registry(), fake.name(), "v1")

    def ask(request: Request) -> Reply | None:
        if request.path == "/oauth2/token":
            form = parse_qs(request.body.decode()) if request.method == "POST" else {}
            if form.get("refresh_token") != ["the-refresh-token"] or form.get("grant_type") != ["refresh_token"]:
                return Reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
            return Reply(200, b'{"access_token":"tok"}')
        if request.headers.get("authorization") == "Bearer tok":
            return None
        realm = f'Bearer realm="http://{fake.netloc}/oauth2/token",service="here"'
        return Reply(401, headers={"WWW-Authenticate": realm})

    fake.faults.append(ask)
    return fake


def test_an_identity_token_is_used_as_a_refresh_token(refreshing: FakeRegistry, tmp_path: Path) -> None:
    known = written(tmp_path / "config.json", {refreshing.netloc: REFRESH})
    assert Registry(docker_config=known).resolve(parse(f"{refreshing.name()}:v1")).size > 0
    (asked,) = refreshing.asked("POST", "/oauth2/token")
    form = parse_qs(asked.body.decode())
    assert (form["scope"], form["service"]) == (["repository:demo/app:pull"], ["here"])
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("other", [entry("0000", "the-refresh-token"), REFRESH | {"identitytoken": "another"}])
def test_what_is_no_refresh_token_there_is_refused(
    refreshing: FakeRegistry, tmp_path: Path, other: dict[str, str]
) -> None:
    known = written(tmp_path / "config.json", {refreshing.netloc: other})
    with pytest.raises(RegistryAuth, match="401 from the token server") as caught:
        Registry(docker_config=known).resolve(parse(f"{refreshing.name()}:v1"))
    assert "the-refresh-token" not in str(caught.value)


def test_an_identity_token_is_no_password(robots: FakeRegistry, tmp_path: Path) -> None:
    known = written(tmp_path / "config.json", {robots.netloc: REFRESH})
    with pytest.raises(RegistryAuth, match="takes a password, not an identity token"):
        Registry(docker_config=known).resolve(parse(f"{robots.name('org-a/app')}:v1"))


def test_a_registry_token_goes_to_the_registry_alone(refreshing: FakeRegistry, tmp_path: Path) -> None:
    known = written(tmp_path / "config.json", {refreshing.netloc: {"registrytoken": "tok"}})
    assert Registry(docker_config=known).resolve(parse(f"{refreshing.name()}:v1")).size > 0
    assert refreshing.asked("POST", "/oauth2/token") == []


def client_of(tmp_path: Path, users: Path | None, registries: dict[str, FakeRegistry]) -> Registry:
    """Return the client of a place where set-up has put the demo's login beside the user's."""
    etc = tmp_path / "state" / "host" / "etc"
    for name, fake in registries.items():
        (etc / "certs.d" / name).mkdir(parents=True)
        (etc / "certs.d" / name / "hosts.toml").write_text(f'server = "http://{fake.netloc}"\n')
    demo = load_or_make(tmp_path / "registry")
    (etc / "docker.json").write_bytes(docker_config(None, demo.logins))
    settings = Settings(state=tmp_path / "state", node="host", registry=RegistrySettings(docker_config=users))
    return registry(settings)


@pytest.mark.parametrize(("name", "given"), [(FALLBACK, True), (REFERRERS, False)])
@pytest.mark.parametrize("users", [True, False])
def test_the_demos_password_goes_to_its_own_registry_only(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: bool, users: bool
) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(written(tmp_path / "none.json", {})))
    fake.auth = "basic"
    own = written(tmp_path / "config.json", {"quay.io": entry("me")}) if users else None
    client = client_of(tmp_path, own, {name: fake})
    with pytest.raises(RegistryAuth):
        client.resolve(parse(f"{name}/demo/app:v1"))
    demos = json.loads((tmp_path / "state/host/etc/docker.json").read_bytes())["auths"][FALLBACK]["auth"]
    assert [one.headers.get("authorization") for one in fake.requests] == [None, *([f"Basic {demos}"] if given else [])]


def test_the_users_own_login_is_used_beside_the_demos(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(Registry(), fake.name(), "v1")
    fake.auth = "basic"
    home = written(tmp_path / "home" / "config.json", {"quay.io": entry("me")})
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(home.parent))
    client = client_of(tmp_path, None, {"quay.io": fake})
    assert client.resolve(parse("quay.io/demo/app:v1")).size > 0
    assert client.logins == [f"{home}: auths.quay.io"]
