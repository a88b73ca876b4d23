"""Every way in which a container could start unseen on CRI-O (``crio_starts.yaml``), tried."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from countersign.console.config import Settings
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from countersign.enforcement import refusal
from crio import render
from crio.runtime import Crio
from lab.demo.registries import REFERRERS
from lab.trials import matrix
from lab.trials.cri_place import SLEEP, away
from lab.trials.crio_place import CrioPlace
from lab.trials.lab import Lab
from lab.trials.rows import OK, By, Found, Layer, Outcome, Row, Series, compare

LOOSE = "loose"
NATIVE = "SignatureValidationFailed"
"""How a refusal by CRI-O's own engine begins."""
WATCHED = ("sleep", "0.3")
"""CRI-O watches the folder of hooks; so long until it has read it again."""
WAIVER = {"required-plugins.noderesource.dev": json.dumps([]), "tolerate-missing": "true"}


@dataclass(frozen=True)
class Start(Row):
    """One trial; see the head of ``crio_starts.yaml``."""

    name: str
    way: str
    image: str
    code: str
    by: By = ""
    store: str = "cached"
    during: Sequence[str] = ()
    written: str = ""
    annotated: str = ""
    waived: bool = False
    loose: bool = False
    twice: bool = False
    after: bool = False
    layer: Layer = "create"

    @property
    def id(self) -> str:
        """Its name on the command line."""
        return f"starts/{self.name}"

    @property
    def shown(self) -> tuple[str, str]:
        """Its name and what is done."""
        return self.name, self.way


STARTS = tuple(Start(**each) for each in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")))


@dataclass
class Scene:
    """What trials work with: the CRI-O, opened, and the built images and policies; both engines are strict at first."""

    place: CrioPlace
    lab: Lab

    @property
    def machine(self) -> Crio:
        """The CRI-O."""
        return self.place.machine

    def image(self, name: str) -> str:
        """Return an image of the matrix by its tag."""
        return f"{self.lab.built[f'{REFERRERS}/{name}'][0]}:v1"

    def attempt(self, row: Start) -> Found:
        """Try a row, and return what came of it."""
        STORES[row.store](self, row)
        with ExitStack() as wrong:
            for name in row.during:
                wrong.enter_context(DURING[name](self))
            found = self._start(row)
            if row.twice and not found.allow:
                found = self._start(row)
        return self._start(row) if row.after else found

    def _start(self, row: Start) -> Found:
        reference = self.image(row.image)
        named = ("io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image") if row.annotated else ()
        annotations = {**dict.fromkeys(named, self.image(row.annotated or row.image)), **(WAIVER if row.waived else {})}
        with self.machine.client() as client:
            try:
                with client.pod(namespace=LOOSE if row.loose else "default") as pod:
                    container = Container(
                        self.place.image_id(reference),
                        written=self.image(row.written) if row.written else reference,
                        command=SLEEP,
                        annotations=annotations,
                    )
                    client.start(client.create(pod, container))
            except CriError as error:
                code = self.place.code_of(error.message)
                by: By = "gate" if refusal.code_of(error.message) else "own" if NATIVE in error.message else "runtime"
                return Found(False, code=code, message=error.message, by=by)
        return Found(True, code=OK)


def _pulled(scene: Scene, row: Start) -> None:
    scene.place.set_policy(scene.lab.strict)
    scene.place.pull(scene.image(row.image))


def _cached(scene: Scene, row: Start) -> None:
    """Pull what a row needs while nothing is checked; then both are strict."""
    scene.place.set_policy(scene.lab.lax)
    scene.place.set_own(None)
    for name in filter(None, (row.image, row.written, row.annotated)):
        scene.place.pull(scene.image(name))
    scene.place.set_policy(scene.lab.strict)


def _without_signatures(scene: Scene, row: Start) -> None:
    node, path = scene.machine.node, scene.machine.paths.demo_registries_d
    scene.place.empty([f"{REFERRERS}/cases/"])
    content = node.get(path)
    node.run(["rm", "--", path])
    try:
        _cached(scene, row)
    finally:
        node.put(content, path)


def _with_signatures(scene: Scene, row: Start) -> None:
    _without_signatures(scene, row)
    scene.place.forget(scene.image(row.image))
    scene.place.pull(scene.image(row.image))


STORES: Mapping[str, Callable[[Scene, Start], None]] = {
    "pulled": _pulled,
    "cached": _cached,
    "without signatures": _without_signatures,
    "with signatures": _with_signatures,
}


@contextmanager
def _own_accepts(scene: Scene) -> Iterator[None]:
    """Let CRI-O's own engine accept everything meanwhile: the gate has to decide."""
    scene.place.set_own(None)
    try:
        yield
    finally:
        scene.place.set_own(scene.lab.strict)


@contextmanager
def _loose_namespace(scene: Scene) -> Iterator[None]:
    """Give a namespace a policy file of its own that accepts everything."""
    node, path = scene.machine.node, f"{scene.machine.paths.namespaces}/{LOOSE}.json"
    node.put(render.accepting(), path)
    try:
        yield
    finally:
        node.run(["rm", "-f", "--", path])


@contextmanager
def _hook_dropped(scene: Scene) -> Iterator[None]:
    """Remove the hook's program and let CRI-O read hooks.d again: it drops the hook with one log line."""
    with scene.place.hook_program_missing():
        _touch_hook(scene)
        try:
            yield
        finally:
            _touch_hook(scene)


def _touch_hook(scene: Scene) -> None:
    node, path = scene.machine.node, scene.machine.paths.hook
    node.run(["cp", "--", path, f"{path}.new"])
    node.run(["mv", "--", f"{path}.new", path])
    node.run(WATCHED)


@contextmanager
def _hook_file_missing(scene: Scene) -> Iterator[None]:
    with away(scene.machine.node, scene.machine.paths.hook):
        scene.machine.node.run(WATCHED)
        yield


@contextmanager
def _hook_file_half_written(scene: Scene) -> Iterator[None]:
    node, path = scene.machine.node, scene.machine.paths.hook
    content = node.get(path)
    node.put(content[: len(content) // 2], path)
    node.run(WATCHED)
    try:
        yield
    finally:
        node.put(content, path)
        node.run(WATCHED)


@contextmanager
def _restarted(scene: Scene) -> Iterator[None]:
    scene.machine.controls().restart_runtime()
    yield


DURING: Mapping[str, Callable[[Scene], AbstractContextManager[None]]] = {
    "own_accepts": _own_accepts,
    "loose_namespace": _loose_namespace,
    "hook_program_missing": lambda scene: scene.place.hook_program_missing(),
    "hook_dropped": _hook_dropped,
    "hook_file_missing": _hook_file_missing,
    "hook_file_half_written": _hook_file_half_written,
    "gate_stopped": lambda scene: scene.place.gate_stopped(),
    "gate_hung": lambda scene: scene.place.gate_hung(),
    "restarted": _restarted,
}


def series(settings: Settings, machine: Crio, images: Callable[[], Lab]) -> Series:
    """Return the starts as trials of a CRI-O, as set-up left it."""
    opened = CrioPlace(machine, settings.policy, "both")

    def attempt(starts: Sequence[Start]) -> Generator[Outcome, None, None]:
        lab = images()
        with opened as place:
            scene = Scene(place, lab)
            try:
                for start in starts:
                    yield compare(start, scene.attempt(start))
            finally:
                place.restore_policy()
                matrix.empty(place)

    return Series("starts", opened.runtime, opened.node, STARTS, attempt, "./inv crio.test", at=machine)
