"""Every way in which a container could start unseen on CRI-O, tried with its own engine and the gate as set up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from countersign.console.errors import VerdictError
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from crio import render
from crio.prove import NATIVE
from lab.demo.registries import REFERRERS
from lab.trials.crio_place import CrioPlace
from lab.trials.ways import code_of as gate_code

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.console.config import Settings
    from crio.machine import Machine
    from lab.trials.lab import Lab

By = Literal["gate", "own", "runtime"]
"""Who refuses: the gate, CRI-O's own engine, or CRI-O because the gate or its hook is not there."""
SIGNED, UNSIGNED, ACCEPTED = "both", "unsigned", "accepted"
LOOSE = "loose"
SLEEP = ("/demo", "sleep")


@dataclass(frozen=True)
class Seen:
    """What came of a start.

    Attributes:
        allow: the container ran.
        code: the reason code; empty when it ran.
        by: who refused; empty when it ran.
        message: CRI-O's error.
    """

    allow: bool
    code: str = ""
    by: str = ""
    message: str = ""


@dataclass(frozen=True)
class Start:
    """One trial.

    Attributes:
        name: on the command line, behind ``starts/``.
        about: what is done.
        run: does it, and returns what came of it.
        code: the expected reason code; empty when it must run.
        by: who must refuse.
    """

    name: str
    about: str
    run: Callable[[Scene], Seen] = field(repr=False)
    code: str = ""
    by: By | Literal[""] = ""

    def difference(self, seen: Seen) -> str:
        """Return how what came out differs, or an empty text."""
        expected, found = (self.code, self.by), (seen.code, seen.by)
        if seen.allow != (not self.code):
            return "it ran" if seen.allow else f"it was refused: {seen.message}"
        return "" if expected == found else f"{found[0]} by {found[1]}, expected {expected[0]} by {expected[1]}"


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
    def machine(self) -> Machine:
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
    ) -> Seen:
        """Start a container of an image on the node.

        Args:
            name: the image.
            written: the name that the client claims; empty is its own.
            namespace: of the pod.
            annotations: of the container.
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
                by: By = "gate" if gate_code(error.message) else "own" if NATIVE in error.message else "runtime"
                return Seen(allow=False, code=code, by=by, message=error.message)
        return Seen(allow=True)


def signed(scene: Scene) -> Seen:
    """A signed image, under both."""
    scene.strict()
    scene.place.pull(scene.image(SIGNED))
    return scene.start(SIGNED)


def cached(scene: Scene) -> Seen:
    """Cached before the policy became strict."""
    scene.cache(UNSIGNED)
    return scene.start(UNSIGNED)


def cached_own_accepts(scene: Scene) -> Seen:
    """The same while CRI-O's own engine accepts everything."""
    scene.cache(UNSIGNED)
    with scene.own_accepts():
        return scene.start(UNSIGNED)


def tag_moved(scene: Scene) -> Seen:
    """The tag moved to an unsigned image after signing, and was pulled while nothing was checked."""
    scene.cache("moved_tag")
    with scene.own_accepts():
        return scene.start("moved_tag")


def claimed_name(scene: Scene) -> Seen:
    """The client claims that an unsigned image has a signed one's name."""
    scene.cache(UNSIGNED, SIGNED)
    with scene.own_accepts():
        return scene.start(UNSIGNED, written=scene.image(SIGNED))


def claimed_scope(scene: Scene) -> Seen:
    """The client claims a name in a scope that accepts everything."""
    scene.cache(UNSIGNED, ACCEPTED)
    with scene.own_accepts():
        return scene.start(UNSIGNED, written=scene.image(ACCEPTED))


def claimed_by_annotation(scene: Scene) -> Seen:
    """A container annotation says another name."""
    scene.cache(UNSIGNED, SIGNED)
    name = scene.image(SIGNED)
    with scene.own_accepts():
        return scene.start(
            UNSIGNED, annotations={"io.kubernetes.cri-o.ImageName": name, "io.kubernetes.cri-o.Image": name}
        )


def accepted(scene: Scene) -> Seen:
    """The twin: the image that really is in that scope."""
    scene.cache(ACCEPTED)
    return scene.start(ACCEPTED)


@contextmanager
def _loose_namespace(scene: Scene) -> Iterator[None]:
    node, path = scene.machine.node, f"{scene.machine.paths.namespaces}/{LOOSE}.json"
    node.put(render.accepting(), path)
    try:
        yield
    finally:
        node.run(["rm", "-f", "--", path])


def namespace_looser(scene: Scene) -> Seen:
    """A namespace's own policy file accepts everything."""
    scene.cache(UNSIGNED)
    with _loose_namespace(scene):
        return scene.start(UNSIGNED, namespace=LOOSE)


def namespace_other(scene: Scene) -> Seen:
    """The twin: another namespace."""
    scene.cache(UNSIGNED)
    with _loose_namespace(scene):
        return scene.start(UNSIGNED)


def signatures_not_fetched(scene: Scene) -> Seen:
    """Pulled while registries.d did not say where signatures lie: none came with the image."""
    _pull_without_registries_d(scene)
    return scene.start(SIGNED)


def signatures_fetched_later(scene: Scene) -> Seen:
    """The twin: pulled again once it says so."""
    _pull_without_registries_d(scene)
    scene.place.forget(scene.image(SIGNED))
    scene.place.pull(scene.image(SIGNED))
    return scene.start(SIGNED)


def _pull_without_registries_d(scene: Scene) -> None:
    node, path = scene.machine.node, scene.machine.paths.demo_registries_d
    scene.place.empty([f"{REFERRERS}/cases/"])
    scene.place.set_policy(scene.lab.lax)
    scene.place.set_own(None)
    content = node.get(path)
    node.run(["rm", "--", path])
    try:
        scene.place.pull(scene.image(SIGNED))
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


def hook_program_gone(scene: Scene) -> Seen:
    """The hook's program is removed."""
    scene.cache(SIGNED)
    with _without(scene, scene.machine.layout.hook):
        return scene.start(SIGNED)


def hook_program_gone_and_read_again(scene: Scene) -> Seen:
    """The hook's program is removed and CRI-O reads hooks.d again: it drops the hook with one log line."""
    scene.cache(SIGNED)
    with _without(scene, scene.machine.layout.hook):
        _touch_hook(scene)
        try:
            return scene.start(SIGNED)
        finally:
            _touch_hook(scene)


def _touch_hook(scene: Scene) -> None:
    node, path = scene.machine.node, scene.machine.paths.hook
    node.run(["cp", "--", path, f"{path}.new"])
    node.run(["mv", "--", f"{path}.new", path])
    node.run(["sleep", "0.3"])  # the folder is watched


def hook_file_gone(scene: Scene) -> Seen:
    """The hook's JSON is removed."""
    scene.cache(UNSIGNED)
    with _without(scene, scene.machine.paths.hook), scene.own_accepts():
        scene.machine.node.run(["sleep", "0.3"])
        return scene.start(UNSIGNED)


def hook_file_half_written(scene: Scene) -> Seen:
    """The hook's JSON ends half-way."""
    scene.cache(UNSIGNED)
    with _half_written(scene), scene.own_accepts():
        return scene.start(UNSIGNED)


def hook_file_half_written_signed(scene: Scene) -> Seen:
    """The twin: a signed image."""
    scene.cache(SIGNED)
    with _half_written(scene):
        return scene.start(SIGNED)


@contextmanager
def _half_written(scene: Scene) -> Iterator[None]:
    node, path = scene.machine.node, scene.machine.paths.hook
    content = node.get(path)
    node.put(content[: len(content) // 2], path)
    node.run(["sleep", "0.3"])
    try:
        yield
    finally:
        node.put(content, path)
        node.run(["sleep", "0.3"])


def plugin_absent(scene: Scene) -> Seen:
    """The gate is stopped, and with it CRI-O's NRI plugin."""
    scene.cache(SIGNED)
    with scene.place.gate_stopped():
        return scene.start(SIGNED)


def hook_file_gone_gate_hung(scene: Scene) -> Seen:
    """The hook's JSON is removed while the gate hangs: the first container that waits for it, and the next."""
    scene.cache(UNSIGNED)
    with _without(scene, scene.machine.paths.hook), scene.own_accepts():
        scene.machine.node.run(["sleep", "0.3"])
        with scene.place.gate_hung():
            return _twice(scene, UNSIGNED)


def hook_program_gone_gate_hung(scene: Scene) -> Seen:
    """The hook's program is removed and hooks.d read again, while the gate hangs."""
    scene.cache(UNSIGNED)
    with _without(scene, scene.machine.layout.hook), scene.own_accepts():
        _touch_hook(scene)
        try:
            with scene.place.gate_hung():
                return _twice(scene, UNSIGNED)
        finally:
            _touch_hook(scene)


def _twice(scene: Scene, name: str) -> Seen:
    """Start an image twice, and return the first start that ran, or else the second."""
    first = scene.start(name)
    return first if first.allow else scene.start(name)


def plugin_back(scene: Scene) -> Seen:
    """The twin: it is back."""
    plugin_absent(scene)
    return scene.start(SIGNED)


def plugin_waived(scene: Scene) -> Seen:
    """The gate is stopped, and the container says that it needs no plugin."""
    scene.cache(SIGNED)
    waiver = json.dumps([])
    with scene.place.gate_stopped():
        return scene.start(
            SIGNED, annotations={"required-plugins.noderesource.dev": waiver, "tolerate-missing": "true"}
        )


def restarted_unsigned(scene: Scene) -> Seen:
    """CRI-O is restarted."""
    scene.cache(UNSIGNED)
    scene.machine.controls().restart_runtime()
    with scene.own_accepts():
        return scene.start(UNSIGNED)


def restarted_signed(scene: Scene) -> Seen:
    """The twin."""
    scene.cache(SIGNED)
    scene.machine.controls().restart_runtime()
    return scene.start(SIGNED)


STARTS = (
    Start("signed", "a signed image", signed),
    Start("cached", "cached before the policy was tightened", cached, "UNSIGNED", "own"),
    Start("cached-own-accepts", "the same, CRI-O's own engine accepting", cached_own_accepts, "UNSIGNED", "gate"),
    Start("tag-moved", "the tag moved to an unsigned image", tag_moved, "UNSIGNED", "gate"),
    Start("claimed-name", "the client claims a signed image's name", claimed_name, "UNSIGNED", "gate"),
    Start("claimed-scope", "the client claims a name in an accepting scope", claimed_scope, "UNSIGNED", "gate"),
    Start(
        "claimed-annotation",
        "an annotation claims a signed image's name",
        claimed_by_annotation,
        "NOT_WHAT_RUNS",
        "gate",
    ),
    Start("accepted", "an image in an accepting scope", accepted),
    Start("namespace-looser", "a namespace's own policy accepts everything", namespace_looser, "UNSIGNED", "gate"),
    Start("namespace-other", "another namespace", namespace_other, "UNSIGNED", "own"),
    Start("registries.d-off", "pulled without signatures", signatures_not_fetched, "UNSIGNED", "own"),
    Start("registries.d-on", "pulled again with signatures", signatures_fetched_later),
    Start("hook-gone", "the hook's program is removed", hook_program_gone, "GATE_DOWN", "runtime"),
    Start(
        "hook-gone-reread",
        "removed, and hooks.d read again",
        hook_program_gone_and_read_again,
        "GATE_DOWN",
        "runtime",
    ),
    Start("hook-file-gone", "the hook's JSON is removed", hook_file_gone, "UNSIGNED", "gate"),
    Start("hook-file-half", "the hook's JSON ends half-way", hook_file_half_written, "UNSIGNED", "gate"),
    Start("hook-file-half-signed", "the same, a signed image", hook_file_half_written_signed),
    Start("hook-file-gone-hung", "the same, the gate hangs", hook_file_gone_gate_hung, "GATE_DOWN", "runtime"),
    Start("hook-gone-hung", "the program gone, the gate hangs", hook_program_gone_gate_hung, "GATE_DOWN", "runtime"),
    Start("plugin-absent", "the gate is stopped", plugin_absent, "GATE_DOWN", "runtime"),
    Start("plugin-back", "the gate is back", plugin_back),
    Start("plugin-waived", "stopped, and an annotation waives it", plugin_waived, "GATE_DOWN", "runtime"),
    Start("restarted", "CRI-O was restarted", restarted_unsigned, "UNSIGNED", "gate"),
    Start("restarted-signed", "the same, a signed image", restarted_signed),
)


def run_starts(settings: Settings, machine: Machine, lab: Lab, starts: Sequence[Start]) -> Path:
    """Run and show starts; the JSON document goes to the report's folder, and its path is returned.

    Raises:
        VerdictError: one came out otherwise than it must.
    """
    from countersign.console import output

    found = []
    with CrioPlace(machine, settings.policy, "both") as place:
        scene = Scene(place, lab)
        try:
            for start in starts:
                seen = start.run(scene)
                found.append((start, seen))
                if start.difference(seen):
                    output.failed(f"starts/{start.name}: {start.difference(seen)}")
        finally:
            place.restore_policy()
            place.empty([f"{REFERRERS}/cases/"])
    rows = [
        (
            start.name,
            start.about,
            start.code or "runs",
            seen.code or "runs" if not seen.allow else "runs",
            seen.by,
            f"✗ {start.difference(seen)}" if start.difference(seen) else "✓",
        )
        for start, seen in found
    ]
    output.table(("start", "", "expected", "actual", "by", ""), rows, title=f"starts on {machine.node.name}")
    path = settings.state / "report" / f"crio-starts-{machine.node.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "name": start.name,
            "about": start.about,
            "expected": start.code,
            "actual": seen.code,
            "by": seen.by,
            "message": seen.message,
            "difference": start.difference(seen),
            "repeat": f"./inv crio.test --only starts/{start.name}",
        }
        for start, seen in found
    ]
    document = {"version": "countersign.starts/v1", "node": machine.node.name, "starts": entries}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    wrong = [start for start, seen in found if start.difference(seen)]
    if wrong:
        again = " ".join(f"--only starts/{start.name}" for start in wrong[:3])
        raise VerdictError(f"{len(wrong)} of {len(found)} starts came out otherwise", do=f"./inv crio.test {again}")
    output.done(f"{len(found)} starts came out as they must")
    return path
