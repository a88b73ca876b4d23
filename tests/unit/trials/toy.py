"""A runtime in memory with a gate, as an adapter for the trials: what a third runtime has to bring, and no more."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import Self

from countersign.cri.errors import CriError
from countersign.enforcement import refusal
from lab.demo.registries import FALLBACK, REFERRERS
from lab.trials.demo import GREETING
from lab.trials.lab import IMAGE_NAME, Lab
from lab.trials.model import Case, RegistryKind
from lab.trials.model import images as entries

SIGNED = ("attachment", "bundle", "both", "good_and_bad", "app")
IMAGES = (*SIGNED, "unsigned", "accepted", "rejected", "unmatched", "pinned")
SCOPES = {"cases/accepted:": "ACCEPTED_BY_SCOPE", "cases/rejected:": "REJECTED_BY_SCOPE", "cases/": "", "demo/": ""}
"""Beginning of a path → the code of its scope; empty where signatures decide."""
HOOK_GONE = "toy: there is no hook"


def digest(image: str) -> str:
    """Return an image's digest, which is its ID, too."""
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


NAMES = {digest(image): image for image in IMAGES}


def images(folder: Path, hosts: Mapping[RegistryKind, str]) -> Lab:
    """Return images that only have a name each, in every registry."""
    built = {}
    known = entries()
    for image in IMAGES:
        layout = folder / image
        (layout / "blobs" / "sha256").mkdir(parents=True)
        manifest = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(image), "size": 1}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        for host in hosts.values():
            repository = f"{host}/{known[image].repository if image in known else f'cases/{image}'}"
            built[f"{host}/{image}"] = (repository, digest(image), str(layout))
    return Lab(folder, hosts, built)


class Toy:
    """The adapter.

    Attributes:
        flaw: what is wrong with its gate; empty is nothing.
        down: what is stopped, hung or gone: ``gate``, ``hung``, ``hook``, or a registry.
    """

    runtime, node, other_handler = "toy", "memory", "other"
    registries: Mapping[RegistryKind, str] = {"referrers": REFERRERS, "fallback": FALLBACK}
    at, short_names = None, False

    def __init__(self, flaw: str = "") -> None:
        self.flaw = flaw
        self.down: set[str] = set()
        self._policy = "the user's"
        self._store: dict[str, str] = {}
        self._containers: dict[str, tuple[str, str, str]] = {}
        self._evidence: set[str] = set()
        self._log: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self._containers, "a trial left a container"

    def rows(self, cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if case.image in IMAGES or case.name == "short"]

    def why_not(self, case: Case) -> str:
        return "there is no Docker Hub in memory" if case.name == "short" else ""

    def code_of(self, message: str) -> str:
        return refusal.code_of(message) or ("GATE_DOWN" if HOOK_GONE in message else "")

    def pull(self, reference: str) -> None:
        name = reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
        self._judge("PullImage", "pull", reference, digest(name), record=digest(name))
        self._store[reference] = digest(name)

    def image_id(self, reference: str) -> str:
        return self._store.get(reference, "")

    def create(
        self,
        image_id: str,
        written: str,
        *,
        handler: str = "",
        volume: str = "",
        annotations: object = (),
        command: object = (),
    ) -> str:
        if handler == "bare" or "hung" in self.down:
            raise CriError("CreateContainer", "UNKNOWN", "countersign: refused container: GATE_DOWN: no plugin answers")
        if handler == "vm":
            raise CriError("CreateContainer", "UNKNOWN", "countersign: refused container: UNSUPPORTED_RUNTIME: none")
        name = f"c{len(self._containers)}"
        self._containers[name] = (image_id, written, volume)
        return name

    def start(self, container: str) -> None:
        image, written, volume = self._containers[container]
        if "hook" in self.down:
            raise CriError("StartContainer", "UNKNOWN", HOOK_GONE)
        for name, found in ((written, image), *([(volume, self._store[volume])] if volume else [])):
            self._judge("StartContainer", "create", name, found, self._store.get(name, ""), container)

    def get(self, container: str, url: str) -> str:
        return GREETING if container in self._containers else url

    def remove(self, container: str) -> None:
        del self._containers[container]

    def import_images(self, archive: Path) -> None:
        with tarfile.open(archive) as tar:
            index = tar.extractfile("index.json")
            assert index is not None
            entries = json.load(index)["manifests"]
        self._store |= {entry["annotations"][IMAGE_NAME]: entry["digest"] for entry in entries}

    def tag(self, source: str, target: str) -> None:
        self._store[target] = self._store[source]

    def forget(self, reference: str) -> None:
        self._store.pop(reference, None)

    def empty(self, prefixes: Sequence[str]) -> None:
        self._store = {name: image for name, image in self._store.items() if not name.startswith(tuple(prefixes))}
        self.forget_evidence()

    def set_policy(self, policy: Path) -> None:
        self._policy = policy.stem

    def restore_policy(self) -> None:
        self._policy = "the user's"

    def forget_evidence(self) -> None:
        self._evidence.clear()

    def verdicts(self) -> list[dict[str, Any]]:
        found, self._log = self._log, []
        return found

    @contextmanager
    def added_handler(self, *, hooked: bool, other_runtime: bool = False) -> Iterator[str]:
        yield "vm" if other_runtime else "added" if hooked else "bare"

    def hook_program_missing(self) -> Any:
        return self._without("hook")

    def gate_stopped(self) -> Any:
        return self._without("gate")

    def gate_hung(self) -> Any:
        return self._without("hung")

    def registry_stopped(self, kind: RegistryKind) -> Any:
        return self._without(self.registries[kind])

    def restart_runtime(self) -> None:
        assert not self._containers

    @contextmanager
    def _without(self, what: str) -> Iterator[None]:
        self.down.add(what)
        try:
            yield
        finally:
            self.down.remove(what)

    def _judge(self, method: str, layer: str, name: str, image: str, record: str, container: str = "") -> None:
        """Refuse, or not, and log it, like a gate at that layer."""
        if {"gate", "hung"} & self.down:
            code = "GATE_DOWN" if "gate" in self.down else "TIMEOUT"
            code = "OK" if self.flaw == "fails open" else code
        else:
            code = self._code(name, record if self.flaw == "believes the name" else image, record)
            line = {"layer": layer, "container": container, "code": code, "allow": _allows(code), "ms": 0.1}
            self._log += [] if self.flaw == "logs nothing" else [line]
        if not _allows(code) and self.flaw != "allows":
            said = "sorry" if self.flaw == "gives no reason" else f"countersign: refused {name}@{image}: {code}: toy"
            raise CriError(method, "UNKNOWN", said)

    def _code(self, name: str, image: str, record: str) -> str:
        """Bind, then pins, then the scope of the name, then signatures, as the design has it."""
        if self._policy == "lax":
            return "ACCEPTED_BY_SCOPE"
        if "/" in name and record != image:
            return "NOT_WHAT_RUNS" if record else "NO_RECORD"
        if NAMES[image] == "pinned":
            return "PINNED_DIGEST"
        host, _, path = name.partition("/")
        scope = next((code for prefix, code in SCOPES.items() if path.startswith(prefix)), "NO_SCOPE")
        return scope or self._signed(host, image)

    def _signed(self, host: str, image: str) -> str:
        if image not in self._evidence and host in self.down:
            return "NO_EVIDENCE_OFFLINE"
        self._evidence.add(image)
        return "OK" if NAMES[image] in SIGNED else "UNSIGNED"


def _allows(code: str) -> bool:
    return code in {"OK", "ACCEPTED_BY_SCOPE", "PINNED_DIGEST"}
