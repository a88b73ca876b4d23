from __future__ import annotations

from typing import Any

import pytest
import yaml

from countersign.nodes.template import render
from lab.trials.model import reason_codes
from lab.trials.pods.model import SUBJECT, Seen, document, judge, load, look
from lab.trials.pods.run import MANIFESTS

TRIALS = {trial.id: trial for trial in load()}
REFUSAL = "countersign: refused r.test/a@sha256:1: UNSIGNED: found no signature"


def pod(group: str = "containerStatuses", **status: Any) -> dict[str, Any]:
    return {"status": {group: [{"name": SUBJECT, **status}, {"name": "main", "state": {"running": {}}}]}}


def test_a_container_that_runs_ran():
    assert look(pod(state={"running": {"startedAt": "x"}})) == Seen(ran=True)


def test_a_container_that_ended_well_ran():
    assert look(pod("initContainerStatuses", state={"terminated": {"exitCode": 0, "reason": "Completed"}})).ran


def test_a_refused_pull_shows_its_code():
    seen = look(pod(state={"waiting": {"reason": "ErrImagePull", "message": f"failed: {REFUSAL}"}}))
    assert (seen.ran, seen.code, seen.layer) == (False, "UNSIGNED", "pull")


def test_a_refused_start_shows_its_code_also_while_it_is_backed_off():
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": f"hook: {REFUSAL}"}}
    seen = look(pod("ephemeralContainerStatuses", state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended))
    assert (seen.ran, seen.code, seen.layer) == (False, "UNSIGNED", "create")


def test_a_container_that_ran_before_it_failed_ran_for_all_that_its_last_state_says():
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": REFUSAL}}
    assert look(pod(state={"running": {}}, lastState=ended)).ran


@pytest.mark.parametrize("state", [{}, {"waiting": {"reason": "ContainerCreating"}}, {"terminated": {"exitCode": 1}}])
def test_what_is_not_known_yet_is_undecided(state: dict[str, Any]):
    assert not look(pod(state=state)).decided


def test_the_other_containers_do_not_count():
    assert not look({"status": {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}}).decided


@pytest.mark.parametrize(
    ("trial", "seen", "difference"),
    [
        ("pods/never/signed", [Seen(ran=True)], None),
        ("pods/never/unsigned", [Seen(code="UNSIGNED", layer="create", message="m")], None),
        ("pods/never/unsigned", [Seen(ran=True)], "it ran"),
        ("pods/never/signed", [Seen(code="UNSIGNED", layer="create", message="m")], "it was refused: m"),
        ("pods/never/unsigned", [Seen(code="GATE_DOWN", layer="create")], "code GATE_DOWN, expected UNSIGNED"),
        ("pods/never/unsigned", [Seen(code="UNSIGNED", layer="pull")], "pull decided, expected create"),
        ("pods/never/signed", [], "there is no pod"),
        ("pods/never/signed", [Seen()], "it neither ran nor showed a reason code"),
        ("pods/daemonset/unsigned", [Seen(code="UNSIGNED", layer="pull"), Seen(ran=True)], "it ran"),
    ],
)
def test_a_trial_is_judged_by_all_its_pods(trial: str, seen: list[Seen], difference: str | None):
    outcome = judge(TRIALS[trial], seen, ["n1"], 1.5)
    assert outcome.differences == ((difference,) if difference else ())


def test_every_scenario_has_a_code_of_the_closed_list():
    assert {trial.code for trial in TRIALS.values()} <= set(reason_codes())
    assert all(reason_codes()[trial.code] is trial.signed for trial in TRIALS.values())


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


def test_the_document_counts_what_went_wrong():
    good = judge(TRIALS["pods/never/signed"], [Seen(ran=True)], ["n1"], 1.5)
    bad = judge(TRIALS["pods/never/unsigned"], [Seen(ran=True)], ["n1"], 1.5)
    found = document("c", [good, bad])
    assert (found["version"], found["passed"], found["failed"]) == ("countersign.pods/v1", 1, 1)
    assert found["rows"][1]["allow"] == {"expected": False, "actual": True}
    assert found["rows"][1]["repeat"] == "./inv containerd.test --on kind --only pods/never/unsigned"
