"""Whether a containerd enforces now is told by the configuration that it runs by."""

from __future__ import annotations

import pytest

from containerd.inspection import config_in
from containerd.machine import CONFIG


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/usr/local/bin/containerd"], CONFIG),
        ([], CONFIG),
        (["containerd", "--log-level", "debug"], CONFIG),
        (["containerd", "--config", "/other.toml", ""], "/other.toml"),
        (["containerd", "--config=/other.toml"], "/other.toml"),
        (["containerd", "-c", "/other.toml"], "/other.toml"),
    ],
)
def test_the_configuration_is_the_one_on_its_command_line(argv, expected):
    assert config_in(argv) == expected
