"""The cluster of these tests: made once, for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from countersign.console.sources import load_settings
from machines import vagrant
from machines.remote import open_node
from tests.crio_cluster.site import Site, enrolled
from tests.rollout.site import inv


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster without enforcement; its node, an lxc machine with CRI-O, joined with the taint."""
    found, state = load_settings(), tmp_path_factory.mktemp("crio-cluster")
    chosen = dataclasses.replace(found.vagrant, provider="lxc", box="built", machine="crio", bridge="")
    settings = dataclasses.replace(found, state=state, vagrant=chosen, node="vagrant")
    env = {"INVOKE_STATE": str(state), "INVOKE_VAGRANT_MACHINE": "crio"}
    env |= {"INVOKE_VAGRANT_PROVIDER": "lxc", "INVOKE_VAGRANT_BOX": "built"}
    try:
        vagrant.up(settings)
        inv("crio.setup-vm", env=env)
        with enrolled(settings, open_node(settings), tmp_path_factory.mktemp("cluster")) as made:
            yield made
    finally:
        vagrant.destroy(settings)
