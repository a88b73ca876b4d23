"""The ways by which an image reaches a container. Each is a function that tries one row.

A way named ``cached`` needs its images on the node before the strict policy comes: ``CACHED``
names those ways, and matrix.py pulls for them under the lax policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from lab.trials.model import Case
from lab.trials.place import NONE, Place
from lab.trials.rows import Found, Layer

if TYPE_CHECKING:
    from lab.trials.lab import Lab


FORGED = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image")
"""Annotations by which containerd and CRI-O tell hooks the image."""


class _Refused(Exception):
    """A CRI call failed; carries the layer it belongs to."""

    def __init__(self, layer: Layer, error: CriError, millis: float, container: str = "") -> None:
        super().__init__(str(error))
        self.layer = layer
        self.millis = millis
        self.container = container


def attempt(way: Callable[[Place, Lab, Case], Found], place: Place, lab: Lab, case: Case) -> Found:
    """Try a row, and return what came out; anything but a refusal by the runtime is raised."""
    try:
        return way(place, lab, case)
    except _Refused as refused:
        code = place.code_of(str(refused))
        return Found(False, refused.layer, code, str(refused), millis=refused.millis, container=refused.container)


def pull(place: Place, lab: Lab, case: Case) -> Found:
    """A fresh pull, then a start."""
    reference = lab.reference(case)
    with _timed("pull"):
        place.pull(reference)
    return _run(place, _id(place, reference), reference)


def imported(place: Place, lab: Lab, case: Case) -> Found:
    """An archive loaded into the runtime's store by hand (matrix.py loads all of them at once)."""
    reference = lab.reference(case)
    image = _id(place, lab.tagged(case))
    written = {"id": image, "id_prefix": image[: len("sha256:") + 12]}.get(case.name, reference)
    return _run(place, image, written)


def cached(place: Place, lab: Lab, case: Case) -> Found:
    """An image pulled under the lax policy, started under the strict one."""
    reference = lab.reference(case)
    return _run(place, _id(place, reference), reference)


def retagged(place: Place, lab: Lab, case: Case) -> Found:
    """An image of an accepted scope under another, trusted name."""
    trusted = f"{place.registries[case.registry]}/cases/{case.image}:retagged"
    place.tag(lab.tagged(case), trusted)
    try:
        return _run(place, _id(place, trusted), trusted)
    finally:
        place.forget(trusted)


def repointed(place: Place, lab: Lab, case: Case) -> Found:
    """The record of a trusted name leads to this image at create, and to a signed one at start."""
    return _repoint(place, lab, case, lab.tagged_as(case, "bundle"))


def repointed_back(place: Place, lab: Lab, case: Case) -> Found:
    """The twin: the record moves to another image and back before the start."""
    return _repoint(place, lab, case, lab.tagged(case))


def _repoint(place: Place, lab: Lab, case: Case, at_start: str) -> Found:
    name = f"{place.registries[case.registry]}/cases/bundle:moving"
    place.tag(lab.tagged(case), name)
    try:
        container = place.create(_id(place, name), name)
        place.tag(lab.tagged_as(case, "attachment"), name)
        place.tag(at_start, name)
        return _start(place, container)
    finally:
        place.forget(name)


def record_removed(place: Place, lab: Lab, case: Case) -> Found:
    """The record is removed between create and start."""
    name = f"{place.registries[case.registry]}/cases/vanishing:v1"
    place.tag(lab.tagged(case), name)
    container = place.create(_id(place, name), name)
    place.forget(name)
    return _start(place, container)


def volume(place: Place, lab: Lab, case: Case) -> Found:
    """The image is a volume of a container whose own image is signed."""
    signed = lab.tagged_as(case, "both")
    return _run(place, _id(place, signed), signed, mounted=lab.reference(case))


def forged(place: Place, lab: Lab, case: Case) -> Found:
    """In a pod whose annotations, those that runtimes give containers, name a signed image."""
    reference, claimed = lab.reference(case), lab.tagged_as(case, "both")
    return _run(place, _id(place, reference), reference, annotations=dict.fromkeys(FORGED, claimed))


def other_handler(place: Place, lab: Lab, case: Case) -> Found:
    """Under the second runtime handler."""
    reference = lab.reference(case)
    return _run(place, _id(place, reference), reference, handler=place.other_handler)


def hooked_handler(place: Place, lab: Lab, case: Case) -> Found:
    """Under a runtime handler that was added after set-up, with the base spec that has the hook."""
    with place.added_handler(hooked=True) as handler:
        return _under(place, lab, case, handler)


def added_handler(place: Place, lab: Lab, case: Case) -> Found:
    """Under a runtime handler that was added after set-up, without the base spec that has the hook."""
    with place.added_handler(hooked=False) as handler:
        return _under(place, lab, case, handler)


def other_runtime(place: Place, lab: Lab, case: Case) -> Found:
    """Under a runtime handler that was added after set-up, with the hook, but a runtime that may not run it."""
    with place.added_handler(hooked=True, other_runtime=True) as handler:
        return _under(place, lab, case, handler)


def added_handler_gate_hung(place: Place, lab: Lab, case: Case) -> Found:
    """The same while the gate hangs, twice: the first to wait for the gate, and the next."""
    with place.added_handler(hooked=False) as handler, place.gate_hung():

        def under(place: Place, lab: Lab, case: Case) -> Found:
            return _under(place, lab, case, handler)

        return _twice(under, place, lab, case)


def hook_program_missing(place: Place, lab: Lab, case: Case) -> Found:
    """The hook's program is removed."""
    with place.hook_program_missing():
        return cached(place, lab, case)


def hook_program_missing_gate_hung(place: Place, lab: Lab, case: Case) -> Found:
    """The hook's program is removed while the gate hangs, twice as above."""
    with place.hook_program_missing(), place.gate_hung():
        return _twice(cached, place, lab, case)


def gate_stopped(place: Place, lab: Lab, case: Case) -> Found:
    """A start while the gate is stopped."""
    with place.gate_stopped():
        return cached(place, lab, case)


def gate_hung(place: Place, lab: Lab, case: Case) -> Found:
    """A start while the gate hangs."""
    with place.gate_hung():
        return cached(place, lab, case)


def gate_stopped_at_start(place: Place, lab: Lab, case: Case) -> Found:
    """The gate is stopped between create and start: the hook has to notice."""
    container = place.create(_id(place, lab.reference(case)), lab.reference(case))
    with place.gate_stopped():
        return _start(place, container)


def gate_hung_at_start(place: Place, lab: Lab, case: Case) -> Found:
    """The gate hangs from between create and start."""
    container = place.create(_id(place, lab.reference(case)), lab.reference(case))
    with place.gate_hung():
        return _start(place, container)


def gate_back(place: Place, lab: Lab, case: Case) -> Found:
    """A start after the gate was stopped and came back by itself."""
    return cached(place, lab, case)


def registry_stopped(place: Place, lab: Lab, case: Case) -> Found:
    """A start while the registry is stopped, with or without evidence on the node."""
    place.forget_evidence()
    reference = lab.reference(case)
    if case.evidence:
        _run(place, _id(place, reference), reference)
    with place.registry_stopped(case.registry):
        return _run(place, _id(place, reference), reference)


def registry_back(place: Place, lab: Lab, case: Case) -> Found:
    """A start without evidence after the registry came back."""
    place.forget_evidence()
    return cached(place, lab, case)


def runtime_restarted(place: Place, lab: Lab, case: Case) -> Found:
    """A start after the runtime was restarted."""
    place.restart_runtime()
    return cached(place, lab, case)


WAYS: dict[str, Callable[[Place, Lab, Case], Found]] = {
    "import": imported,
    "retagged": retagged,
    "repointed": repointed,
    "repointed_back": repointed_back,
    "record_removed": record_removed,
    "volume": volume,
    "forged": forged,
    "other_handler": other_handler,
    "hooked_handler": hooked_handler,
    "added_handler": added_handler,
    "other_runtime": other_runtime,
    "added_handler_gate_hung": added_handler_gate_hung,
    "cached": cached,
    "hook_program_missing": hook_program_missing,
    "hook_program_missing_gate_hung": hook_program_missing_gate_hung,
    "gate_stopped": gate_stopped,
    "gate_stopped_at_start": gate_stopped_at_start,
    "gate_hung": gate_hung,
    "gate_hung_at_start": gate_hung_at_start,
    "gate_back": gate_back,
    "registry_stopped": registry_stopped,
    "registry_back": registry_back,
    "runtime_restarted": runtime_restarted,
    "pull": pull,
}
"""Every way, in the order in which matrix.py takes them: ``pull`` last, on an emptied store."""


@contextmanager
def _timed(layer: Layer, container: str = "") -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    except CriError as error:
        raise _Refused(layer, error, (time.monotonic() - start) * 1000, container) from error


def _id(place: Place, reference: str) -> str:
    """Return the image's ID; CRI learns of an image that came in behind its back a little later."""
    deadline = time.monotonic() + 5
    while not (image := place.image_id(reference)):
        if time.monotonic() > deadline:
            raise InfrastructureError("the runtime does not know the image", where=reference)
        time.sleep(0.02)
    return image


def _run(
    place: Place,
    image: str,
    written: str,
    *,
    handler: str = "",
    mounted: str = "",
    annotations: Mapping[str, str] = NONE,
) -> Found:
    with _timed("create"):
        container = place.create(image, written, handler=handler, volume=mounted, annotations=annotations)
    return _start(place, container)


def _under(place: Place, lab: Lab, case: Case, handler: str) -> Found:
    reference = lab.reference(case)
    return _run(place, _id(place, reference), reference, handler=handler)


def _twice(way: Callable[[Place, Lab, Case], Found], place: Place, lab: Lab, case: Case) -> Found:
    """Try a way twice, and return the first trial that started, or else the second."""
    first = attempt(way, place, lab, case)
    return first if first.allow else attempt(way, place, lab, case)


def _start(place: Place, container: str) -> Found:
    start = time.monotonic()
    try:
        with _timed("create", container):
            place.start(container)
        return Found(True, millis=(time.monotonic() - start) * 1000, container=container)
    finally:
        place.remove(container)
