import pytest

from lab.bench import goals
from lab.bench.goals import MIB
from lab.bench.model import NO_OP, VARIANTS, Burst, HooksOnly, Sample, Sizes

GATE = {"warm": 1.0, "cold-evidence": 2.0, "cold-registry": 6.0}


def samples(**starts: float) -> list[Sample]:
    """Return three rounds in which every variant takes 50 ms, or what ``starts`` says."""
    return [
        Sample(variant.key, turn, 5.0, starts.get(variant.key, 50.0), GATE.get(variant.key), variant.source)
        for turn in range(3)
        for variant in VARIANTS
    ]


def burst(verifications: int = 1) -> Burst:
    return Burst(50, 1.0, verifications, {"registry": 1, "memory": 49}, [1.0] * 50)


GOOD = Sizes(gate_rss=30 * MIB, hook=1 * MIB)
HOOKS = HooksOnly([1.0] * 200, [1.9] * 200)  # 0.9 ms of 50


def test_all_goals_are_met_by_good_figures():
    found = goals.of_starts(samples(warm=50.9), HOOKS, burst(), GOOD)
    assert [goal.met for goal in found] == [True] * 7
    assert [found[0].found, found[1].found] == [pytest.approx(1.8)] * 2


@pytest.mark.parametrize(
    ("missed", "found"),
    [
        ([0], goals.of_starts(samples(), HooksOnly([1.0] * 200, [2.1] * 200), burst(), GOOD)),
        ([1], goals.of_starts(samples(), HooksOnly([1.0] * 200, [1.9] * 197 + [3.6] * 3), burst(), GOOD)),
        ([], goals.of_starts(samples(), HooksOnly([1.0] * 200, [1.9] * 198 + [3.6] * 2), burst(), GOOD)),
        ([4], goals.of_starts(samples(), HOOKS, burst(verifications=2), GOOD)),
        ([5], goals.of_starts(samples(), HOOKS, burst(), Sizes(41 * MIB, MIB))),
        ([6], goals.of_starts(samples(), HOOKS, burst(), Sizes(MIB, 4 * MIB))),
    ],
)
def test_each_goal_is_missed_by_its_own_figure(missed, found):
    assert [index for index, goal in enumerate(found) if not goal.met] == missed


@pytest.mark.parametrize(("noop", "met"), [(50.0, False), (100.0, True)])
def test_what_a_warm_verdict_may_add_grows_with_the_start_that_it_is_added_to(noop, met):
    found = goals.of_starts(samples(**{NO_OP.key: noop}), HooksOnly([1.0] * 200, [2.5] * 200), burst(), GOOD)
    assert found[0].met is met


@pytest.mark.parametrize(("key", "number"), [("cold-evidence", 2), ("cold-registry", 3)])
def test_a_slow_gate_misses_the_goal_of_its_variant(monkeypatch, key, number):
    monkeypatch.setitem(GATE, key, 10.5)
    found = goals.of_starts(samples(), HOOKS, burst(), GOOD)
    assert [index for index, goal in enumerate(found) if not goal.met] == [number]


def test_signing_is_judged_by_its_share_of_what_cosign_takes():
    assert goals.of_signing([0.2, 0.3, 0.9], [0.5, 0.5, 0.1])[0].met
    assert not goals.of_signing([0.2, 0.32, 0.9], [0.5, 0.5, 0.1])[0].met
