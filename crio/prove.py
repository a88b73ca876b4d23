"""The proof on a CRI-O: an image in no scope is refused by its own engine at pull, and by the gate at start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.cri.errors import CriError
from countersign.cri.model import Container
from countersign.enforcement import canary, doctor
from countersign.enforcement.canary import EXPECTED, REFERENCE
from countersign.enforcement.problem import NotEnforced, Problem
from countersign.enforcement.refusal import code_of
from countersign.nodes.each import side_by_side
from crio.machine import Machine

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.enforcement.additions import Addition

REFUSED = f"{canary.REFUSED}:{canary.TAG}"
"""In no scope of CRI-O's own policy, while it lets `REFERENCE` pass."""
NATIVE = "SignatureValidationFailed"


def claim(addition: Addition) -> str:
    """Return what the proof shows, for people. CRI-O can be given no image but from a registry."""
    if addition.canary:
        return "an image without a signature is refused at pull and at start"
    return "every setting by which images are refused is in force (none was tried: there is no registry for it)"


def prove(machine: Machine) -> None:
    """Refuse to call it done while anything could run unseen; whatever proves it is called here, and nowhere else.

    Raises:
        NotEnforced: with everything found.
    """
    looks = (_examine, try_canary) if machine.addition.canary else (_examine,)
    side_by_side(lambda look: look(machine), looks)


def _examine(machine: Machine) -> None:
    doctor.examine(machine.node, machine.layout, machine.paths.socket)


def try_canary(machine: Machine) -> None:
    """Pull and start what must be refused.

    Raises:
        NotEnforced: something was not refused, or not by the one who had to.
        CriError: CRI-O failed before anything could be tried.
    """
    with machine.undisturbed(), machine.client() as client:
        problems = [native_pull(client)]
        try:
            client.pull(REFERENCE, timeout=60)
            image = client.image_status(REFERENCE)
            if image is None:
                raise CriError("ImageStatus", "NOT_FOUND", f"{REFERENCE} was pulled and is not there")
            found = image.id
            problems += side_by_side(lambda handler: _start(client, found, handler), machine.handlers)
        finally:
            client.remove_image(REFERENCE)
    found_problems = [problem for problem in problems if problem]
    if found_problems:
        raise NotEnforced(found_problems, "canary")


def native_pull(client: Client) -> Problem | None:
    """Return a problem unless CRI-O's own engine refuses a pull."""
    where = f"pull of {REFUSED}"
    try:
        client.pull(REFUSED, timeout=30)
    except CriError as error:
        if NATIVE in error.message:
            return None
        return Problem(where, f"refused with: {error.message}", f"{NATIVE}, by CRI-O's own policy")
    return Problem(where, "allowed", f"{NATIVE}, by CRI-O's own policy")


def _start(client: Client, image: str, handler: str) -> Problem | None:
    where = f"start of {REFERENCE} under the handler {handler}"
    with client.pod(handler=handler) as pod:
        try:
            client.start(client.create(pod, Container(image, written=REFERENCE)))
        except CriError as error:
            if code_of(error.message) == EXPECTED:
                return None
            return Problem(where, f"refused with: {error.message}", f"a refusal by the gate with {EXPECTED}")
    return Problem(where, "allowed", f"refused by the gate with {EXPECTED}")
