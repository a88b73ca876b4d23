"""What a node itself needs is taken by digest."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.cri.model import Image
from crio import system_images

DIGEST = "sha256:" + "1" * 64
PAUSE = Image("abc", ("registry.k8s.io/pause:3.10",), (f"registry.k8s.io/pause@{DIGEST}",), 1, pinned=True)


class Client:
    """Has these images; pulls what ``reachable`` has."""

    def __init__(self, images: dict[str, Image], reachable: dict[str, Image] | None = None) -> None:
        self.images, self.reachable = images, reachable or {}
        self.running: list[tuple[str, str]] = []

    def image_status(self, name: str) -> Image | None:
        return self.images.get(name)

    def pull(self, name: str, **_: Any) -> None:
        if name not in self.reachable:
            raise CriError("PullImage", "UNKNOWN", "no such host")
        self.images[name] = self.reachable[name]

    def running_images(self, _: str) -> list[tuple[str, str]]:
        return self.running


def test_the_sandbox_image_that_the_node_has_is_named_by_digest() -> None:
    client: Any = Client({"registry.k8s.io/pause:3.10": PAUSE})
    assert system_images.sandbox(client, "registry.k8s.io/pause:3.10") == f"registry.k8s.io/pause@{DIGEST}"
    assert system_images.sandbox(client, f"x/pause@{DIGEST}") == f"x/pause@{DIGEST}"


def test_one_that_it_lacks_is_pulled_or_else_there_is_none() -> None:
    named = "registry.k8s.io/pause:3.10"
    assert system_images.sandbox(Client({}, {named: PAUSE}), named) == f"registry.k8s.io/pause@{DIGEST}"  # type: ignore[arg-type]
    assert system_images.sandbox(Client({}), named) == ""  # type: ignore[arg-type]


def test_an_image_without_a_digest_is_an_error() -> None:
    with pytest.raises(InfrastructureError, match="knows no digest"):
        system_images.by_digest("registry.k8s.io/pause:3.10", Image("abc", (), (), 1, pinned=False))


def test_what_runs_in_the_system_is_taken_by_digest_and_its_names_by_tag_beside() -> None:
    client = Client({"abc": PAUSE})
    client.running = [("registry.k8s.io/pause:3.10", "abc")]
    found = system_images.taken(client)  # type: ignore[arg-type]
    assert found == ([f"registry.k8s.io/pause@{DIGEST}"], ["registry.k8s.io/pause:3.10"])
    client.running = [("gone", "gone")]
    with pytest.raises(InfrastructureError, match="under no name"):
        system_images.taken(client)  # type: ignore[arg-type]
