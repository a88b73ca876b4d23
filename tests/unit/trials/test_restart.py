"""After the runtime restarted, a place goes on only once its own connection answers again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from countersign.cri.errors import CriError
from lab.trials.cri_place import CriPlace


class Connection:
    """A client whose connection was cut off: it fails once, and then answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def version(self) -> Any:
        self.asked.append("version")
        if len(self.asked) == 1:
            raise CriError("Version", "UNAVAILABLE", "Socket closed")
        return SimpleNamespace(version="2.4.2")


def test_a_connection_that_the_restart_cut_off_is_used_until_it_answers() -> None:
    client, restarted = Connection(), []
    controls = SimpleNamespace(restart_runtime=lambda: restarted.append(True))
    place: Any = SimpleNamespace(_client=client, _controls=controls, _remove_pods=lambda: None, runtime="containerd")
    place._answers = lambda: CriPlace._answers(place)
    CriPlace.restart_runtime(place)
    assert restarted == [True]
    assert client.asked == ["version", "version"]
