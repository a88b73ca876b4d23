from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import yaml

from countersign.console.errors import InfrastructureError
from countersign.nodes.template import render
from lab.trials.pods.model import SUBJECT, judge, load, look
from lab.trials.pods.run import ADMISSION, MANIFESTS, PodsPlace, at_admission
from lab.trials.rows import Found, reason_codes

TRIALS = {trial.id: trial for trial in load()}
RAN = Found(True, code="OK")
REFUSAL = "countersign: refused r.test/a@sha256:1: UNSIGNED: found no signature"


def pod(group: str = "containerStatuses", **status: Any) -> dict[str, Any]:
    return {"status": {group: [{"name": SUBJECT, **status}, {"name": "main", "state": {"running": {}}}]}}


def test_a_container_that_runs_ran():
    assert look(pod(state={"running": {"startedAt": "x"}})) == RAN


def test_a_container_that_ended_well_ran():
    assert look(pod("initContainerStatuses", state={"terminated": {"exitCode": 0, "reason": "Completed"}})) == RAN


def test_a_refused_pull_shows_its_code():
    seen = look(pod(state={"waiting": {"reason": "ErrImagePull", "message": f"failed: {REFUSAL}"}}))
    assert seen
    assert (seen.allow, seen.code, seen.layer) == (False, "UNSIGNED", "pull")


def test_a_refused_start_shows_its_code_also_while_it_is_backed_off():
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": f"hook: {REFUSAL}"}}
    seen = look(pod("ephemeralContainerStatuses", state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended))
    assert seen
    assert (seen.allow, seen.code, seen.layer) == (False, "UNSIGNED", "create")


def test_a_container_that_ran_before_it_failed_ran_for_all_that_its_last_state_says():
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": REFUSAL}}
    assert look(pod(state={"running": {}}, lastState=ended)) == RAN


@pytest.mark.parametrize("state", [{}, {"waiting": {"reason": "ContainerCreating"}}, {"terminated": {"exitCode": 1}}])
def test_what_is_not_known_yet_is_undecided(state: dict[str, Any]):
    assert look(pod(state=state)) is None


def test_the_other_containers_do_not_count():
    assert look({"status": {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}}) is None


@pytest.mark.parametrize(
    ("trial", "seen", "difference"),
    [
        ("pods/never/signed", [RAN], None),
        ("pods/never/unsigned", [Found(False, "create", "UNSIGNED", "m")], None),
        ("pods/never/unsigned", [RAN], "it ran"),
        ("pods/never/signed", [Found(False, "create", "UNSIGNED", "m")], "it was refused: m"),
        ("pods/never/unsigned", [Found(False, "create", "GATE_DOWN")], "code GATE_DOWN, expected UNSIGNED"),
        ("pods/never/unsigned", [Found(False, "pull", "UNSIGNED")], "pull decided, expected create"),
        ("pods/never/signed", [], "there is no pod"),
        ("pods/never/signed", [None], "it neither ran nor showed a reason code"),
        ("pods/daemonset/unsigned", [Found(False, "pull", "UNSIGNED"), RAN], "it ran"),
    ],
)
def test_a_trial_is_judged_by_all_its_pods(trial: str, seen: list[Found | None], difference: str | None):
    outcome = judge(TRIALS[trial], seen, ["n1"], 1.5)
    assert outcome.differences == ((difference,) if difference else ())


def test_every_scenario_has_a_code_of_the_closed_list():
    assert {trial.code for trial in TRIALS.values()} <= set(reason_codes())
    assert all(reason_codes()[trial.code] is trial.allow for trial in TRIALS.values())


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_twins_differ_in_the_image_alone(trial: Any):
    def rendered(image: str) -> Any:
        return yaml.safe_load(
            render(
                MANIFESTS,
                kind=trial.scenario.kind,
                name="x",
                namespace="n",
                image=image,
                signed="signed",
                policy=trial.scenario.policy,
                handler=trial.scenario.other_handler,
                node="n1",
            )
        )

    text = yaml.safe_dump(rendered("IMAGE"))
    if trial.scenario.kind != "ephemeral":  # its subject comes later, through the API
        assert "IMAGE" in text
        assert SUBJECT in text
    assert yaml.safe_dump(rendered("OTHER")) == text.replace("IMAGE", "OTHER")


DENIED = 'the API server refused it: admission webhook "validate.kyverno.svc-fail" denied the request: no signatures'
DOWN = 'the API server refused it: failed calling webhook "validate.kyverno.svc-fail": connection refused'


@pytest.mark.parametrize(("said", "refused", "counts"), [(DENIED, {}, True), (DENIED, None, False), (DOWN, {}, False)])
def test_a_refusal_of_the_api_server_counts_where_an_engine_at_admission_decides(
    said: str, refused: dict[str, Found] | None, counts: bool
):
    unused: Any = None
    place = PodsPlace("c", unused, "n1", unused, "h", {}, unused, unused, refused)
    trial = TRIALS["pods/never/unsigned"]
    expected = nullcontext() if counts else pytest.raises(InfrastructureError)
    with expected, at_admission(place, trial):
        raise InfrastructureError(said)
    found = Found(False, "admission", ADMISSION, said)
    assert place.refused == ({trial.object_name: found} if counts else refused)
