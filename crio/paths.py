"""Where everything of CRI-O lies on a node: in the usual places, or below one folder on this host."""

from __future__ import annotations

from dataclasses import dataclass

from countersign.enforcement.layout import SYSTEM, Layout


@dataclass(frozen=True)
class Paths:
    """Paths on a node.

    Attributes:
        socket: CRI-O's gRPC socket, CRI and status included.
        drop_in: our file in crio.conf.d; the last one of the folder wins.
        hooks: our own folder of hooks, beside those that the node has.
        hook: our hook in it (oci-hooks(5)).
        policy: CRI-O's signature policy (containers-policy.json(5)).
        namespaces: the folder of per-namespace policies. A file in it *replaces* the policy, so ours is empty.
        registries_d: where signatures lie (containers-registries.d(5)).
        registries_conf: where the demo's registries lie (containers-registries.conf.d(5)).
        certs: CAs of registries (containers-certs.d(5)).
        storage: containers/storage's graph root.
        run_storage: containers/storage's run root.
        nri: the socket at which NRI plugins register.
        auth: registry credentials of CRI-O's user (containers-auth.json(5)).
    """

    socket: str
    drop_in: str
    hooks: str
    policy: str
    namespaces: str
    registries_d: str
    registries_conf: str
    certs: str
    storage: str
    run_storage: str
    nri: str
    auth: str

    @property
    def demo_registries_d(self) -> str:
        """The same for where the demo's registries really are."""
        return f"{self.registries_d.rpartition('/')[0]}/countersign-demo.yaml"

    @property
    def hook(self) -> str:
        """Our hook's file."""
        return f"{self.hooks}/countersign.json"


def _ours(layout: Layout) -> dict[str, str]:
    folder = f"{layout.etc}/crio"
    return {
        "hooks": f"{folder}/hooks.d",
        "policy": f"{folder}/policy.json",
        "namespaces": f"{folder}/namespaces",
    }


INSTALLED = Paths(
    socket="/var/run/crio/crio.sock",
    drop_in="/etc/crio/crio.conf.d/99-countersign.conf",
    registries_d="/etc/containers/registries.d/countersign.yaml",
    registries_conf="/etc/containers/registries.conf.d/99-countersign.conf",
    certs="/etc/containers/certs.d",
    storage="/var/lib/containers/storage",
    run_storage="/run/containers/storage",
    nri="/var/run/nri/nri.sock",
    auth="/root/.config/containers/auth.json",
    **_ours(SYSTEM),
)


def private(layout: Layout) -> Paths:
    """Return the paths of a CRI-O of this host whose home folder is ``<layout.lib>/home``."""
    home, data = f"{layout.lib}/home", f"{layout.lib}/crio"
    return Paths(
        socket=f"{layout.run}/crio.sock",
        drop_in=f"{layout.etc}/crio.conf.d/99-countersign.conf",
        registries_d=f"{home}/.config/containers/registries.d/countersign.yaml",
        registries_conf=f"{home}/.config/containers/registries.conf",
        certs=f"{home}/.config/containers/certs.d",
        storage=f"{data}/storage",
        run_storage=f"{layout.run}/storage",
        nri=f"{layout.run}/nri.sock",
        auth=f"{home}/.config/containers/auth.json",
        **_ours(layout),
    )
