"""The official repositories of CRI-O and Kubernetes, whose signing keys are checked before they are trusted.

A repository's key comes over the same connection as its packages, so by itself it proves nothing. What is trusted here
are the fingerprints below. Compare them yourself before the first use, over another way: those of CRI-O at
https://build.opensuse.org/projects/isv:cri-o/signing_keys, of Kubernetes at
https://build.opensuse.org/projects/isv:kubernetes/signing_keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.nodes.steps import File, Folder

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

VERSION = "1.36"
"""The minor version of CRI-O and Kubernetes that a new machine is given."""
FETCH_WITHIN = 90.0
HTTPS_ONLY = ("--proto", "=https", "--proto-redir", "=https")
FETCH = ("curl", "--fail", "--silent", "--show-error", "--location", *HTTPS_ONLY, "--max-filesize", str(64 << 10))


@dataclass(frozen=True)
class Repository:
    """A repository of packages.

    Attributes:
        name: as its files are called on a machine.
        base: its URL, without the folder of the package format.
        fingerprints: of the keys that may sign it; OpenPGP, 40 hexadecimal digits.
    """

    name: str
    base: str
    fingerprints: frozenset[str]

    def url(self, family: str) -> str:
        """Return where the packages of a family (``deb``, ``rpm``) are."""
        return f"{self.base}/{family}/"

    def key_url(self, family: str) -> str:
        """Return where the signing key is."""
        return self.url(family) + ("Release.key" if family == "deb" else "repodata/repomd.xml.key")

    def key_path(self, family: str) -> str:
        """Return where the key lies on a machine, once it is trusted."""
        if family == "deb":
            return f"/etc/apt/keyrings/{self.name}.asc"
        return f"/etc/pki/rpm-gpg/RPM-GPG-KEY-{self.name}"

    def list_path(self, family: str) -> str:
        """Return the file on a machine that names the repository."""
        return f"/etc/apt/sources.list.d/{self.name}.list" if family == "deb" else f"/etc/yum.repos.d/{self.name}.repo"

    def listing(self, family: str) -> bytes:
        """Return that file's content; see sources.list(5), dnf.conf(5)."""
        if family == "deb":
            return f"deb [signed-by={self.key_path(family)}] {self.url(family)} /\n".encode()
        lines = (
            f"[{self.name}]",
            f"name={self.name}",
            f"baseurl={self.url(family)}",
            "enabled=1",
            "gpgcheck=1",
            "repo_gpgcheck=1",
            f"gpgkey=file://{self.key_path(family)}",
        )
        return ("\n".join(lines) + "\n").encode()


CRIO = Repository(
    "cri-o",
    f"https://download.opensuse.org/repositories/isv:/cri-o:/stable:/v{VERSION}",
    frozenset({"85B67D5C50100B1AC8CEFE49CBA9C85640A2B579"}),
)
KUBERNETES = Repository(
    "kubernetes",
    f"https://pkgs.k8s.io/core:/stable:/v{VERSION}",
    frozenset({"DE15B14486CD377B9E876E1A234654DA9A296436"}),
)


def steps(node: Node, repository: Repository, family: str) -> list[Step]:
    """Return the steps that make a machine trust a repository: the key first, then what uses it."""
    folder = repository.key_path(family).rsplit("/", 1)[0]
    return [
        Folder(node, folder),
        Key(node, repository, family),
        File(node, repository.list_path(family), repository.listing(family)),
    ]


@dataclass(frozen=True)
class Key:
    """A step: the repository's signing key is on the machine, and it is one that we know."""

    node: Node
    repository: Repository
    family: str

    @property
    def name(self) -> str:
        """What users read."""
        return f"signing key of {self.repository.name}"

    def needed(self) -> bool:
        """Return whether there is none, or another one."""
        path = self.repository.key_path(self.family)
        return not self.node.exists(path) or self._unknown(fingerprints(self.node, self.node.get(path)))

    def apply(self) -> None:
        """Fetch it, and put it there if its fingerprint is right; it is nowhere on the machine before that.

        Raises:
            InfrastructureError: it could not be fetched, or is another key.
        """
        url = self.repository.key_url(self.family)
        key = self.node.run([*FETCH, url], timeout=FETCH_WITHIN).stdout
        found = fingerprints(self.node, key)
        if self._unknown(found):
            raise InfrastructureError(
                f"got the key {', '.join(sorted(found)) or 'none'}",
                where=url,
                expected=" or ".join(sorted(self.repository.fingerprints)),
                do="trust nothing from there before you know why it changed",
            )
        self.node.put(key, self.repository.key_path(self.family))

    def _unknown(self, found: frozenset[str]) -> bool:
        return not found or not found <= self.repository.fingerprints


def fingerprints(node: Node, key: bytes) -> frozenset[str]:
    """Return the fingerprints of the primary keys in OpenPGP data; none if it is not such data.

    Args:
        node: its gpg reads them (gnupg, DETAILS, "Format of the colon listings").
        key: armoured or not.
    """
    home = node.run(["mktemp", "-d"]).text
    try:
        gpg = ["gpg", "--homedir", home, "--batch", "--no-autostart", "--with-colons", "--show-keys"]
        shown = node.run(gpg, input=key, check=False)
    finally:
        node.run(["rm", "-rf", "--", home])
    found, primary = set(), False
    for line in shown.text.splitlines() if shown.code == 0 else []:
        fields = line.split(":")
        if fields[0] in {"pub", "sub", "sec", "ssb"}:
            primary = fields[0] in {"pub", "sec"}
        elif fields[0] == "fpr" and primary:
            found.add(fields[9])
    return frozenset(found)
