"""Every way in which a container could start unseen on CRI-O, tried with its own engine and the gate as set up."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from countersign.console.config import Settings
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from countersign.enforcement import refusal
from crio import render
from crio.runtime import Crio
from lab.demo.registries import REFERRERS
from lab.trials import matrix
from lab.trials.crio_place import CrioPlace
from lab.trials.lab import Lab
from lab.trials.rows import OK, By, Found, Layer, Outcome, Row, compare
from lab.trials.series import Series

SIGNED, UNSIGNED, ACCEPTED = "both", "unsigned", "accepted"
LOOSE = "loose"
NATIVE = "SignatureValidationFailed"
"""How a refusal by CRI-O's own engine begins."""
SLEEP = ("/demo", "sleep")
WATCHED = ("sleep", "0.3")
"""CRI-O watches the folder of hooks; so long until it has read it again."""


@dataclass(frozen=True)
class Start(Row):
    """One trial.

    Attributes:
        name: on the command line, behind ``starts/``.
        way: what is done, in words.
        image: of the matrix.
        run: does it, and returns what came of it.
        code: the reason code that must come out.
        by: who must refuse.
    """

    name: str
    way: str
    image: str
    run: Callable[[Scene, str], Found] = field(repr=False)
    code: str = OK
    by: By = ""
    layer: Layer = "create"

    @property
    def id(self) -> str:
        """Its name on the command line."""
        return f"starts/{self.name}"

    @property
    def shown(self) -> tuple[str, str]:
        """Its name and what is done."""
        return self.name, self.way


@dataclass
class Scene:
    """What trials work with; both engines are strict unless a trial says otherwise.

    Attributes:
        place: the CRI-O, opened for trials.
        lab: the built images and policies.
    """

    place: CrioPlace
    lab: Lab

    @property
    def machine(self) -> Crio:
        """The CRI-O."""
        return self.place.machine

    def image(self, name: str) -> str:
        """Return an image of the matrix by its tag."""
        return f"{self.lab.built[f'{REFERRERS}/{name}'][0]}:v1"

    def strict(self) -> None:
        """Put the strict policy in force."""
        self.place.set_policy(self.lab.strict)

    def cache(self, *names: str) -> None:
        """Have images on the node, pulled while nothing was checked; then both are strict."""
        self.place.set_policy(self.lab.lax)
        self.place.set_own(None)
        for name in names:
            self.place.pull(self.image(name))
        self.strict()

    @contextmanager
    def own_accepts(self) -> Iterator[None]:
        """Let CRI-O's own engine accept everything meanwhile: the gate has to decide."""
        self.place.set_own(None)
        try:
            yield
        finally:
            self.place.set_own(self.lab.strict)

    def start(
        self,
        name: str,
        *,
        written: str = "",
        namespace: str = "default",
        annotations: dict[str, str] | None = None,
    ) -> Found:
        """Start a container of an image on the node.

        Args:
            written: the name that the client claims; empty is its own.
        """
        reference = self.image(name)
        with self.machine.client() as client:
            try:
                with client.pod(namespace=namespace) as pod:
                    container = Container(
                        self.place.image_id(reference),
                        written=written or reference,
                        command=SLEEP,
                        annotations=annotations or {},
                    )
                    client.start(client.create(pod, container))
            except CriError as error:
                code = self.place.code_of(error.message)
                by: By = "gate" if refusal.code_of(error.message) else "own" if NATIVE in error.message else "runtime"
                return Found(False, code=code, message=error.message, by=by)
        return Found(True, code=OK)


def pulled(scene: Scene, image: str) -> Found:
    """Pulled under both."""
    scene.strict()
    scene.place.pull(scene.image(image))
    return scene.start(image)


def cached(scene: Scene, image: str) -> Found:
    """Cached before the policy became strict."""
    scene.cache(image)
    return scene.start(image)


def cached_own_accepts(scene: Scene, image: str) -> Found:
    """The same while CRI-O's own engine accepts everything."""
    scene.cache(image)
    with scene.own_accepts():
        return scene.start(image)


def claimed_name(scene: Scene, image: str) -> Found:
    """The client claims that an unsigned image has a signed one's name."""
    return _claimed(scene, image, SIGNED)


def claimed_scope(scene: Scene, image: str) -> Found:
    """The client claims a name in a scope that accepts everything."""
    return _claimed(scene, image, ACCEPTED)


def _claimed(scene: Scene, image: str, claimed: str) -> Found:
    scene.cache(image, claimed)
    with scene.own_accepts():
        return scene.start(image, written=scene.image(claimed))


def claimed_by_annotation(scene: Scene, image: str) -> Found:
    """A container annotation says another name."""
    scene.cache(image, SIGNED)
    name = scene.image(SIGNED)
    with scene.own_accepts():
        return scene.start(
            image, annotations={"io.kubernetes.cri-o.ImageName": name, "io.kubernetes.cri-o.Image": name}
        )


@contextmanager
def _loose_namespace(scene: Scene) -> Iterator[None]:
    node, path = scene.machine.node, f"{scene.machine.paths.namespaces}/{LOOSE}.json"
    node.put(render.accepting(), path)
    try:
        yield
    finally:
        node.run(["rm", "-f", "--", path])


def namespace_looser(scene: Scene, image: str) -> Found:
    """A namespace's own policy file accepts everything."""
    scene.cache(image)
    with _loose_namespace(scene):
        return scene.start(image, namespace=LOOSE)


def namespace_other(scene: Scene, image: str) -> Found:
    """The twin: another namespace."""
    scene.cache(image)
    with _loose_namespace(scene):
        return scene.start(image)


def signatures_not_fetched(scene: Scene, image: str) -> Found:
    """Pulled while registries.d did not say where signatures lie: none came with the image."""
    _pull_without_registries_d(scene, image)
    return scene.start(image)


def signatures_fetched_later(scene: Scene, image: str) -> Found:
    """The twin: pulled again once it says so."""
    _pull_without_registries_d(scene, image)
    scene.place.forget(scene.image(image))
    scene.place.pull(scene.image(image))
    return scene.start(image)


def _pull_without_registries_d(scene: Scene, image: str) -> None:
    node, path = scene.machine.node, scene.machine.paths.demo_registries_d
    scene.place.empty([f"{REFERRERS}/cases/"])
    scene.place.set_policy(scene.lab.lax)
    scene.place.set_own(None)
    content = node.get(path)
    node.run(["rm", "--", path])
    try:
        scene.place.pull(scene.image(image))
    finally:
        node.put(content, path)
    scene.strict()


@contextmanager
def _without(scene: Scene, path: str) -> Iterator[None]:
    """Move a file of the node away meanwhile."""
    node, beside = scene.machine.node, f"{path.rpartition('/')[0]}/.away"
    node.run(["mv", "--", path, beside])
    try:
        yield
    finally:
        node.run(["mv", "--", beside, path])


def hook_program_missing(scene: Scene, image: str) -> Found:
    """The hook's program is removed."""
    scene.cache(image)
    with _without(scene, scene.machine.layout.hook):
        return scene.start(image)


@contextmanager
def _hook_dropped(scene: Scene) -> Iterator[None]:
    """Remove the hook's program and let CRI-O read hooks.d again: it drops the hook with one log line."""
    with _without(scene, scene.machine.layout.hook):
        _touch_hook(scene)
        try:
            yield
        finally:
            _touch_hook(scene)


def hook_program_missing_and_read_again(scene: Scene, image: str) -> Found:
    """The hook's program is removed and CRI-O reads hooks.d again."""
    scene.cache(image)
    with _hook_dropped(scene):
        return scene.start(image)


def _touch_hook(scene: Scene) -> None:
    node, path = scene.machine.node, scene.machine.paths.hook
    node.run(["cp", "--", path, f"{path}.new"])
    node.run(["mv", "--", f"{path}.new", path])
    node.run(WATCHED)


@contextmanager
def _hook_file_missing(scene: Scene) -> Iterator[None]:
    with _without(scene, scene.machine.paths.hook), scene.own_accepts():
        scene.machine.node.run(WATCHED)
        yield


def hook_file_missing(scene: Scene, image: str) -> Found:
    """The hook's JSON is removed."""
    scene.cache(image)
    with _hook_file_missing(scene):
        return scene.start(image)


def hook_file_half_written(scene: Scene, image: str) -> Found:
    """The hook's JSON ends half-way."""
    scene.cache(image)
    with _half_written(scene), scene.own_accepts():
        return scene.start(image)


@contextmanager
def _half_written(scene: Scene) -> Iterator[None]:
    node, path = scene.machine.node, scene.machine.paths.hook
    content = node.get(path)
    node.put(content[: len(content) // 2], path)
    node.run(WATCHED)
    try:
        yield
    finally:
        node.put(content, path)
        node.run(WATCHED)


def plugin_absent(scene: Scene, image: str) -> Found:
    """The gate is stopped, and with it CRI-O's NRI plugin."""
    scene.cache(image)
    with scene.place.gate_stopped():
        return scene.start(image)


def hook_file_missing_gate_hung(scene: Scene, image: str) -> Found:
    """The hook's JSON is removed while the gate hangs: the first container that waits for it, and the next."""
    scene.cache(image)
    with _hook_file_missing(scene), scene.place.gate_hung():
        return _twice(scene, image)


def hook_program_missing_gate_hung(scene: Scene, image: str) -> Found:
    """The hook's program is removed and hooks.d read again, while the gate hangs."""
    scene.cache(image)
    with _hook_dropped(scene), scene.own_accepts(), scene.place.gate_hung():
        return _twice(scene, image)


def _twice(scene: Scene, image: str) -> Found:
    """Start an image twice, and return the first start that ran, or else the second."""
    first = scene.start(image)
    return first if first.allow else scene.start(image)


def plugin_back(scene: Scene, image: str) -> Found:
    """The twin: it is back."""
    plugin_absent(scene, image)
    return scene.start(image)


def plugin_waived(scene: Scene, image: str) -> Found:
    """The gate is stopped, and the container says that it needs no plugin."""
    scene.cache(image)
    waiver = {"required-plugins.noderesource.dev": json.dumps([]), "tolerate-missing": "true"}
    with scene.place.gate_stopped():
        return scene.start(image, annotations=waiver)


def restarted(scene: Scene, image: str) -> Found:
    """CRI-O is restarted."""
    scene.cache(image)
    scene.machine.controls().restart_runtime()
    with scene.own_accepts():
        return scene.start(image)


_ROWS: tuple[tuple[str, str, str, Callable[[Scene, str], Found], str, By], ...] = (
    ("signed", "a signed image", SIGNED, pulled, OK, ""),
    ("cached", "cached before the policy was tightened", UNSIGNED, cached, "UNSIGNED", "own"),
    ("cached-own-accepts", "the same, CRI-O's own engine accepting", UNSIGNED, cached_own_accepts, "UNSIGNED", "gate"),
    ("tag-moved", "the tag moved to an unsigned image", "moved_tag", cached_own_accepts, "UNSIGNED", "gate"),
    ("claimed-name", "the client claims a signed image's name", UNSIGNED, claimed_name, "UNSIGNED", "gate"),
    ("claimed-scope", "the client claims a name in an accepting scope", UNSIGNED, claimed_scope, "UNSIGNED", "gate"),
    (
        *("claimed-annotation", "an annotation claims a signed image's name", UNSIGNED),
        *(claimed_by_annotation, "NOT_WHAT_RUNS", "gate"),
    ),
    ("accepted", "an image in an accepting scope", ACCEPTED, cached, OK, ""),
    ("namespace-looser", "a namespace's own policy accepts everything", UNSIGNED, namespace_looser, "UNSIGNED", "gate"),
    ("namespace-other", "another namespace", UNSIGNED, namespace_other, "UNSIGNED", "own"),
    ("registries.d-off", "pulled without signatures", SIGNED, signatures_not_fetched, "UNSIGNED", "own"),
    ("registries.d-on", "pulled again with signatures", SIGNED, signatures_fetched_later, OK, ""),
    ("hook-missing", "the hook's program is removed", SIGNED, hook_program_missing, "GATE_DOWN", "runtime"),
    (
        *("hook-missing-reread", "removed, and hooks.d read again", SIGNED),
        *(hook_program_missing_and_read_again, "GATE_DOWN", "runtime"),
    ),
    ("hook-file-missing", "the hook's JSON is removed", UNSIGNED, hook_file_missing, "UNSIGNED", "gate"),
    ("hook-file-half", "the hook's JSON ends half-way", UNSIGNED, hook_file_half_written, "UNSIGNED", "gate"),
    ("hook-file-half-signed", "the same, a signed image", SIGNED, hook_file_half_written, OK, ""),
    (
        "hook-file-missing-hung",
        "the same, the gate hangs",
        UNSIGNED,
        hook_file_missing_gate_hung,
        "GATE_DOWN",
        "runtime",
    ),
    (
        *("hook-missing-hung", "the program gone, the gate hangs", UNSIGNED),
        *(hook_program_missing_gate_hung, "GATE_DOWN", "runtime"),
    ),
    ("plugin-absent", "the gate is stopped", SIGNED, plugin_absent, "GATE_DOWN", "runtime"),
    ("plugin-back", "the gate is back", SIGNED, plugin_back, OK, ""),
    ("plugin-waived", "stopped, and an annotation waives it", SIGNED, plugin_waived, "GATE_DOWN", "runtime"),
    ("restarted", "CRI-O was restarted", UNSIGNED, restarted, "UNSIGNED", "gate"),
    ("restarted-signed", "the same, a signed image", SIGNED, restarted, OK, ""),
)
STARTS = tuple(Start(*row) for row in _ROWS)


def series(settings: Settings, machine: Crio, images: Callable[[], Lab]) -> Series:
    """Return the starts as trials of a CRI-O, as set-up left it."""
    opened = CrioPlace(machine, settings.policy, "both")

    def attempt(starts: Sequence[Start]) -> Generator[Outcome, None, None]:
        lab = images()
        with opened as place:
            scene = Scene(place, lab)
            try:
                for start in starts:
                    yield compare(start, start.run(scene, start.image))
            finally:
                place.restore_policy()
                matrix.empty(place)

    return Series("starts", opened.runtime, opened.node, STARTS, attempt, "./inv crio.test", at=machine)
