from __future__ import annotations

import base64
import json
import socket
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest
from cryptography import x509

from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement import layout
from countersign.enforcement.additions import Addition, credentials
from countersign.enforcement.reach import docker_config
from countersign.keys import tls
from countersign.oci.hosts import hosts_of
from lab.demo import registries
from lab.demo.registries import FALLBACK, MAPPED, REFERRERS


@pytest.fixture
def where(tmp_path: Path) -> layout.Layout:
    return layout.host(tmp_path)


@pytest.fixture
def demo(tmp_path: Path) -> registries.Registries:
    return registries.load_or_make(tmp_path / "host" / "registry")


def write(demo, where) -> None:
    for file in registries.files(demo, where):
        Path(file.path).parent.mkdir(parents=True, exist_ok=True)
        file.apply()


def test_registries_are_made_once_and_then_read_back(demo, where):
    assert not demo.folder.exists(), "making them writes nothing"
    write(demo, where)
    again = registries.load_or_make(demo.folder)
    assert again == demo
    assert [file for file in registries.files(again, where) if file.needed()] == []


def test_secrets_are_for_root_alone(demo, where):
    write(demo, where)
    texts = {path: path.read_text() for path in demo.folder.iterdir()}
    secret = {path.name for path, text in texts.items() if demo.password in text or "PRIVATE" in text or "$2a$" in text}
    assert secret == {"registries.json", "server.key", "htpasswd"}
    assert all((demo.folder / name).stat().st_mode & 0o777 == 0o600 for name in secret)
    assert demo.password not in repr(demo)


def test_the_password_file_takes_the_password(demo):
    user, _, hashed = demo.htpasswd.decode().strip().partition(":")
    assert user == registries.USER
    assert bcrypt.checkpw(demo.password.encode(), hashed.encode())


def test_the_certificate_is_for_the_name_and_for_loopback(demo):
    ca, own = (x509.load_pem_x509_certificate(pem) for pem in (demo.identity.ca, demo.identity.certificate))
    own.verify_directly_issued_by(ca)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [FALLBACK, REFERRERS, "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_certificate_that_lacks_a_name_is_made_anew_and_the_rest_is_kept(tmp_path):
    old = replace(registries.load_or_make(tmp_path), identity=tls.make([FALLBACK, "127.0.0.1"]))
    (tmp_path / "registries.json").write_bytes(registries.kept(old).content)
    found = registries.load_or_make(tmp_path)
    assert tls.covers(found.identity, registries.CERTIFIED)
    assert (found.password, found.ports) == (old.password, old.ports)


def test_a_certificate_with_every_name_is_kept(tmp_path):
    old = registries.load_or_make(tmp_path)
    (tmp_path / "registries.json").write_bytes(registries.kept(old).content)
    assert registries.load_or_make(tmp_path).identity == old.identity


def test_every_name_leads_to_its_registry(demo, where):
    write(demo, where)
    for name in MAPPED:
        assert {host.netloc for host in hosts_of(name, Path(where.certs), allow_http=False)} == {
            f"127.0.0.1:{demo.ports[REFERRERS]}"
        }
    secured = hosts_of(FALLBACK, Path(where.certs), allow_http=False)[0]
    assert (secured.scheme, secured.ca) == ("https", (Path(demo.ca),))


def test_a_port_that_is_taken_is_told_before_anything_changes(demo, where, tmp_path):
    registries.check_ports(demo, tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", demo.ports[REFERRERS]))
        other.listen()
        with pytest.raises(
            InfrastructureError, match=f"port {demo.ports[REFERRERS]} of the registry {REFERRERS} is taken"
        ):
            registries.check_ports(demo, tmp_path)


def test_the_users_credentials_are_kept(demo, tmp_path):
    users = tmp_path / "config.json"
    users.write_text(json.dumps({"auths": {"registry.example": {"auth": "eDp5"}}, "credsStore": "desktop"}))
    auths = json.loads(docker_config(users, demo.logins))["auths"]
    assert auths["registry.example"] == {"auth": "eDp5"}
    assert base64.b64decode(auths[FALLBACK]["auth"]).decode() == f"{registries.USER}:{demo.password}"


def given(demo: registries.Registries) -> Addition:
    class Given(Addition):
        logins = demo.logins

    return Given()


@pytest.mark.parametrize("reference", [f"{REFERRERS}/demo:v1", f"{FALLBACK}.evil.example/demo:v1", "docker.io/demo:v1"])
def test_no_other_registry_is_passed_the_demos_password(demo, reference):
    assert credentials(given(demo), reference) is None


def test_the_demos_own_registry_is_passed_its_password(demo):
    passed = credentials(given(demo), f"{FALLBACK}/demo:v1")
    assert passed is not None
    assert (passed.username, passed.password) == (registries.USER, demo.password)


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": 1}'])
def test_what_is_no_docker_config_is_refused(demo, tmp_path, content):
    users = tmp_path / "config.json"
    users.write_text(content)
    with pytest.raises(UsageError, match="cannot be read as a Docker config"):
        docker_config(users, demo.logins)


def test_a_service_restarts_when_its_files_change(demo, where):
    programs = {name: Path(f"/bin/{name}") for name in registries.SERVICES.values()}
    first = registries.services(demo, where, "group", programs)
    assert first == registries.services(demo, where, "group", programs)
    another = registries.Registries(**{**vars(demo), "secret": "other"})
    second = registries.services(another, where, "group", programs)
    assert first[FALLBACK].digest() != second[FALLBACK].digest()


@pytest.mark.parametrize("content", [b"", b'{"ports":', b"\0\0\0", b"\xff"])
def test_what_was_kept_and_cut_off_is_one_line(tmp_path, content):
    (tmp_path / "registries.json").write_bytes(content)
    with pytest.raises(InfrastructureError, match=r"registries\.json: cannot be read; .*; remove it"):
        registries.load_or_make(tmp_path)
    (tmp_path / "registries.json").unlink()
    assert registries.load_or_make(tmp_path).password
