import pytest

from bench import goals
from bench.goals import MIB
from bench.model import VARIANTS, Alone, Burst, Sample, Sizes

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
ALONE = Alone([1.0] * 3, [2.5] * 3)


def test_all_goals_are_met_by_good_figures():
    found = goals.of_starts(samples(warm=51.5), ALONE, burst(), GOOD)
    assert [goal.met for goal in found] == [True] * 8
    assert found[0].found == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (0, goals.of_starts(samples(warm=52.5), ALONE, burst(), GOOD)),
        (1, goals.of_starts(samples(), Alone([1.0] * 3, [3.5] * 3), burst(), GOOD)),
        (5, goals.of_starts(samples(), ALONE, burst(verifications=2), GOOD)),
        (6, goals.of_starts(samples(), ALONE, burst(), Sizes(41 * MIB, MIB))),
        (7, goals.of_starts(samples(), ALONE, burst(), Sizes(MIB, 4 * MIB))),
    ],
)
def test_each_goal_is_missed_by_its_own_figure(number, found):
    assert [index for index, goal in enumerate(found) if not goal.met] == [number]


@pytest.mark.parametrize(("key", "number"), [("warm", 2), ("cold-evidence", 3), ("cold-registry", 4)])
def test_a_slow_gate_misses_the_goal_of_its_variant(monkeypatch, key, number):
    monkeypatch.setitem(GATE, key, 10.5)
    found = goals.of_starts(samples(), ALONE, burst(), GOOD)
    assert [index for index, goal in enumerate(found) if not goal.met] == [number]


def test_signing_is_judged_by_its_median():
    assert goals.of_signing([0.2, 0.25, 0.9])[0].met
    assert not goals.of_signing([0.2, 0.35, 0.9])[0].met
