"""hosts.toml is read as containerd reads it; what would change trust is refused, never ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign.oci.errors import BadConfig
from countersign.oci.hosts import Host, hosts_of, is_loopback


def write(tmp_path: Path, folder: str, text: str) -> Path:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "hosts.toml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        ("registry.example", "https://registry.example/v2"),
        ("registry.example:5000", "https://registry.example:5000/v2"),
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("localhost", "https://localhost/v2"),
        ("127.0.0.1:443", "https://127.0.0.1:443/v2"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
    ],
)
def test_without_a_file_a_registry_is_its_own_server(registry: str, url: str) -> None:
    (host,) = hosts_of(registry, None, allow_http=False)
    assert host.url == url


def test_a_registry_with_an_impossible_port_is_refused() -> None:
    with pytest.raises(BadConfig, match="Port out of range"):
        hosts_of("registry.example:99999", None, allow_http=False)


def test_hosts_come_in_the_files_order_and_the_server_last(tmp_path: Path) -> None:
    text = """
server = "https://origin.example"
[host."https://mirror-b.example"]
  capabilities = ["pull", "resolve"]
[host."http://127.0.0.1:5000"]
"""
    found = hosts_of("registry.example", write(tmp_path, "registry.example", text), allow_http=False)
    assert [host.url for host in found] == [
        "https://mirror-b.example/v2",
        "http://127.0.0.1:5000/v2",
        "https://origin.example/v2",
    ]
    assert found[0].capabilities == {"pull", "resolve"}
    assert "push" in found[1].capabilities
    assert {host.registry for host in found} == {"registry.example"}


def test_without_a_server_the_registry_itself_is_last_with_the_files_own_ca(tmp_path: Path) -> None:
    write(tmp_path, "registry.example", 'ca = "ca.pem"\n')
    (host,) = hosts_of("registry.example", tmp_path, allow_http=False)
    assert host == Host("registry.example", "https", "registry.example", ca=(tmp_path / "registry.example" / "ca.pem",))


@pytest.mark.parametrize("folder", ["registry.example_5000_", "registry.example:5000", "_default"])
def test_the_folders_that_containerd_looks_into(tmp_path: Path, folder: str) -> None:
    write(tmp_path, folder, 'server = "https://here.example"\n')
    (host,) = hosts_of("registry.example:5000", tmp_path, allow_http=False)
    assert host.netloc == "here.example"


def test_ca_is_a_file_or_several(tmp_path: Path) -> None:
    text = '[host."https://a.example"]\nca = ["/etc/a.pem", "b.pem"]\n'
    host = hosts_of("r.example", write(tmp_path, "r.example", text), allow_http=False)[0]
    assert host.ca == (Path("/etc/a.pem"), tmp_path / "r.example" / "b.pem")


@pytest.mark.parametrize(
    ("url", "override", "path"),
    [
        ("https://a.example", "false", "/v2"),
        ("https://a.example/v2/", "false", "/v2"),
        ("https://a.example/mirror", "false", "/mirror/v2"),
        ("https://a.example/api", "true", "/api"),
        ("a.example", "false", "/v2"),
    ],
)
def test_the_apis_root(tmp_path: Path, url: str, override: str, path: str) -> None:
    text = f'[host."{url}"]\noverride_path = {override}\n'
    assert hosts_of("r.example", write(tmp_path, "r.example", text), allow_http=False)[0].path == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[host."https://a.example"]\nskip_verify = true\n', "skip_verify is not supported"),
        ('[host."https://a.example"]\nclient = "c.pem"\n', "client is not supported"),
        ('[host."https://a.example".header]\nx = "y"\n', "header is not supported"),
        ('[host."https://a.example"]\ncapabilities = ["pul"]\n', "unknown capability pul"),
        ('[host."https://a.example"]\ncapabilities = [1]\n', "capabilities = "),
        ('[host."https://a.example"]\nca = 1\n', "ca = 1"),
        ('[host."ftp://a.example"]\n', "not an http or https URL"),
        ('[host."https://user:pw@a.example"]\n', "not an http or https URL"),
        ('[host."https://a.example:99999"]\n', "is not a URL: Port out of range"),
        ('[host."https://a.example:x"]\n', "is not a URL"),
        ('[host."https://[::1"]\n', "is not a URL"),
        ('[host."https://"]\n', "not an http or https URL"),
        ("server = 1\n", "is not a URL"),
        ('host = "x"\n', "host is not a table"),
        ("server = \n", "no TOML"),
        ("a = \udcff", "no TOML"),
        ("#" * (1 << 20) + "\n", "over 1 MiB"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.example").mkdir()
    (tmp_path / "r.example" / "hosts.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadConfig, match=message) as caught:
        hosts_of("r.example", tmp_path, allow_http=False)
    assert str(tmp_path) in str(caught.value)


def test_skip_verify_false_and_dial_timeout_change_nothing(tmp_path: Path) -> None:
    text = '[host."https://a.example"]\nskip_verify = false\ndial_timeout = "1s"\n'
    assert hosts_of("r.example", write(tmp_path, "r.example", text), allow_http=False)[0].scheme == "https"


def test_plain_http_to_another_machine_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "r.example", 'server = "http://10.0.0.1:5000"\n')
    with pytest.raises(BadConfig, match=r"plain HTTP to 10\.0\.0\.1:5000"):
        hosts_of("r.example", tmp_path, allow_http=False)


def test_plain_http_to_another_machine_can_be_allowed(tmp_path: Path) -> None:
    write(tmp_path, "r.example", 'server = "http://10.0.0.1:5000"\n')
    assert hosts_of("r.example", tmp_path, allow_http=True)[0].url == "http://10.0.0.1:5000/v2"


@pytest.mark.parametrize(
    ("netloc", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1:80", True),
        ("[::1]:80", True),
        ("localhost:1", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("10.0.0.1", False),
        ("[::2]", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_what_is_loopback(netloc: str, loopback: bool) -> None:
    assert is_loopback(netloc) is loopback


def test_without_a_file_the_folders_cas_count(tmp_path: Path) -> None:
    folder = tmp_path / "localhost:5000"
    folder.mkdir()
    for name in ("b.crt", "a.crt", "client.key", "ca.pem"):
        (folder / name).touch()
    (host,) = hosts_of("localhost:5000", tmp_path, allow_http=False)
    assert host == Host("localhost:5000", "https", "localhost:5000", ca=(folder / "a.crt", folder / "b.crt"))
    (folder / "hosts.toml").write_text('ca = "ca.pem"\n')
    (host,) = hosts_of("localhost:5000", tmp_path, allow_http=False)
    assert host.ca == (folder / "ca.pem",)


def test_the_first_folder_that_is_there_counts_also_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.example_5000_").mkdir()
    (tmp_path / "r.example_5000_/hosts.toml").touch()
    write(tmp_path, "r.example:5000", 'server = "https://elsewhere.example"\n')
    (host,) = hosts_of("r.example:5000", tmp_path, allow_http=False)
    assert host == Host("r.example:5000", "https", "r.example:5000")


def test_client_certificates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.example").mkdir()
    (tmp_path / "r.example/client.cert").touch()
    with pytest.raises(BadConfig, match=r"client\.cert.*not supported"):
        hosts_of("r.example", tmp_path, allow_http=False)
