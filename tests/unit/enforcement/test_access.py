"""What a node has no credentials for, and what it cannot use of them, is said; one bad entry is its own registry's."""

from __future__ import annotations

import base64
import json

import pytest

from countersign.console.errors import UsageError
from countersign.enforcement import access
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.reach import basic, docker_config
from lab.demo.registries import FALLBACK, REFERRERS, load_or_make

GOOD = {"auth": base64.b64encode(b"user:secret").decode()}
NO_COLON = {"auth": base64.b64encode(b"user").decode()}


def said(auths: object, *scopes: str) -> list[str]:
    rules: dict[str, object] = {scope: {"anyOf": ["team-key"]} for scope in scopes}
    rules["accepted.example"] = {"accept": True}
    config = json.dumps({"auths": auths}).encode()
    return list(access.warnings(config, json.dumps({"scopes": rules}).encode(), "docker.json", (REFERRERS,)))


@pytest.mark.parametrize(
    ("auths", "told"),
    [
        ({"quay.io": GOOD}, []),
        ({"quay.io/team": GOOD}, []),
        ({"quay.io/team/app": GOOD}, []),
        ({"quay.io": GOOD, "registry.example": {}}, []),
        ({}, ["quay.io/team/app: the node has no credentials for it; if it wants some"]),
        ({"quay.io/other": GOOD}, ["quay.io/team/app: the node has no credentials for it; if it wants some"]),
        ({"quay.io": {}}, ["quay.io/team/app: the node has no credentials for it; a credential helper"]),
        ({"quay.io": NO_COLON}, ["docker.json: auths.quay.io: auth is not base64 of user:password"]),
        ({"quay.io": GOOD, "x": NO_COLON}, ["docker.json: auths.x: auth is not base64 of user:password"]),
        ([], ["docker.json: auths: is not an object"]),
    ],
)
def test_each_registry_of_a_signature_scope_is_looked_for(auths, told):
    found = said(auths, "quay.io/team/app")
    assert len(found) == len(told), found
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True)), found


def test_no_secret_is_shown():
    lines = " ".join(said({"quay.io": {"auth": base64.b64encode(b"s3cr3t").decode()}}, "quay.io"))
    assert lines
    assert "s3cr3t" not in lines
    assert base64.b64encode(b"s3cr3t").decode() not in lines


class ProvidedNode:
    """A runtime, and its node, whose gate asks credential providers, or does not."""

    layout = SYSTEM
    registry_names = ()

    def __init__(self, providers: object) -> None:
        self.files = {
            SYSTEM.docker_config: b'{"auths": {"x": {"auth": "Og"}, "bad": {"auth": "!"}}}',
            SYSTEM.policy: b'{"scopes": {"quay.io": {"anyOf": ["team-key"]}}}',
            SYSTEM.gate_config: json.dumps({"registry": {"credentialProviders": providers}}).encode(),
        }

    @property
    def node(self) -> ProvidedNode:
        return self

    def exists(self, path: str) -> bool:
        return path in self.files

    def get(self, path: str) -> bytes:
        return self.files[path]


def test_credential_providers_may_have_what_the_file_has_not():
    without = access.of_runtime(ProvidedNode(None))  # type: ignore[arg-type]
    provided = access.of_runtime(ProvidedNode({"config": "/c", "binDir": "/b"}))  # type: ignore[arg-type]
    assert len(provided) >= 1
    assert [line.partition(":")[0] for line in without if line not in provided] == ["quay.io"]


def test_registries_of_the_demo_that_want_none_are_not_named():
    assert said({}, "registry.countersign.test/demo") == []
    assert len(said({}, f"{FALLBACK}/demo")) == 1


@pytest.mark.parametrize(
    ("users", "auths"),
    [
        ({"auths": {"quay.io": GOOD}}, {"quay.io": GOOD}),
        ({"auths": None}, {}),
        ({"credsStore": "desktop"}, {}),
        ({"credHelpers": {"ecr.example": "ecr-login"}}, {"ecr.example": {}}),
        ({"credHelpers": {"quay.io": "x"}, "auths": {"quay.io": GOOD}}, {"quay.io": GOOD}),
    ],
)
def test_the_nodes_config_has_the_users_entries_beside_the_demos_own_login(tmp_path, users, auths):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(users))
    demo = load_or_make(tmp_path / "registry")
    found = json.loads(docker_config(path, demo.logins))["auths"]
    assert found == {**auths, FALLBACK: {"auth": basic(demo.logins[FALLBACK])}}


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}', '{"credHelpers": 3}'])
def test_what_is_no_docker_config_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="cannot be read as a Docker config"):
        docker_config(path, {})
