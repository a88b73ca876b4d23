"""How users name a machine over SSH."""

from __future__ import annotations

import pytest

from countersign.console.config import Settings
from countersign.console.errors import UsageError
from countersign.nodes import connect


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ssh://box", ("", "box", 0)),
        ("ssh://root@box", ("root", "box", 0)),
        ("ssh://root@192.0.2.7:2222", ("root", "192.0.2.7", 2222)),
        ("ssh://root@Box.example/", ("root", "Box.example", 0)),
        ("ssh://[2001:db8::7]:22", ("", "2001:db8::7", 22)),
    ],
)
def test_a_url_names_user_host_and_port(url: str, found: tuple[str, str, int]) -> None:
    assert connect.parse(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "ssh://",
        "ssh://root@",
        "ssh://box:",
        "ssh://box:99999",
        "ssh://box:x",
        "ssh://box/path",
        "ssh://box?x=1",
        "http://box",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://..",
    ],
)
def test_what_is_no_such_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"expected ssh://\[USER@\]HOST\[:PORT\]"):
        connect.ssh(url, Settings())


def test_a_password_in_a_url_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError, match="has a password in it") as refused:
        connect.parse("ssh://root:secret@box")
    assert "secret" not in str(refused.value)
