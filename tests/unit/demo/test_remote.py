"""The registries that this machine lends to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.oci import access
from lab.demo.registries import FALLBACK, REFERRERS
from lab.demo.remote import folder, remote_demo
from machines import remote


class Exposing:
    """A node on which every port of ours has another number."""

    name = "box"

    def expose(self, port: int) -> str:
        return f"http://127.0.0.1:{port + 1}"


def test_a_machine_is_given_the_demos_names_and_never_docker_hub(tmp_path: Path) -> None:
    node: Any = Exposing()
    made = remote_demo(Settings(state=tmp_path), node, "containerd-box")
    ports = made.made.ports
    assert made.urls == {
        REFERRERS: f"http://127.0.0.1:{ports[REFERRERS] + 1}",
        FALLBACK: f"https://127.0.0.1:{ports[FALLBACK] + 1}",
    }


def test_they_stay_until_the_last_user_gives_them_back(tmp_path: Path) -> None:
    node: Any = Exposing()
    first, second = (remote_demo(Settings(state=tmp_path), node, user) for user in ("containerd-a", "crio-b"))
    users = first.home_folder / "users"
    users.mkdir(parents=True)
    for user in ("containerd-a", "crio-b"):
        (users / user).touch()
    first.release()
    assert (first.used(), second.used()) == (False, True)
    second.release()
    assert not first.home_folder.exists()


def test_registries_that_do_not_run_are_named(tmp_path: Path) -> None:
    node: Any = Exposing()
    with pytest.raises(InfrastructureError, match="registry is stopped; run set-up again"):
        remote_demo(Settings(state=tmp_path), node, "containerd-box").require_up()


@pytest.mark.parametrize(
    ("place", "is_one"), [("vagrant", True), ("ssh://box", True), ("host", False), ("kind", False)]
)
def test_places_over_ssh_share_one_way_to_the_registries(place: str, is_one: bool, tmp_path: Path) -> None:
    assert remote.is_remote(place) is is_one
    found = access.etc(Settings(node=place, state=tmp_path))
    assert (found == folder(tmp_path) / "etc") is is_one


def test_an_earlier_set_up_is_found_under_its_former_name(tmp_path: Path) -> None:
    assert folder(tmp_path) == tmp_path / "remote"
    (tmp_path / "lent").mkdir()
    assert folder(tmp_path) == tmp_path / "lent"


def test_a_place_with_another_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got 'http://box'"):
        remote.open_node(Settings(node="http://box", state=tmp_path))
