from __future__ import annotations

from lab.bench import show
from lab.bench.cluster import COLUMNS, Figures, document, rows

FIGURES = Figures(
    create=20.0,
    set_up=10.0,
    preinstalled=24.0,
    second=4.5,
    changed=0,
    before=(1.0, 1.2, 1.1),
    after=(1.1, 1.3, 1.2),
    at_once=30,
    all_ready=12.0,
    verifications={"w": 1},
)


def test_goals_are_set_beside_what_came_out():
    goals = {goal["name"]: goal["met"] for goal in document(FIGURES, {})["goals"]}
    assert goals == {
        "cluster under enforcement from its first start, over one without": False,
        "pod until ready, with enforcement over without, medians": True,
        "verifications a node for 30 pods at once": True,
        "second set-up": True,
        "second set-up, changed": True,
    }


def test_the_table_has_a_row_for_each_figure_and_can_be_saved(tmp_path):
    machine = {"cpu": "c", "cores": 2, "kernel": "k", "programs": "p", "load": 1, "loadAfter": 2}
    made = document(FIGURES, machine)
    table = rows(made)
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert table[5] == ("a pod until ready, with enforcement", "3", "1.20 / 1.30 / 1.30")
    path = show.save(tmp_path, "bench-kind", made, [(COLUMNS, table)])
    assert "30 pods at once until ready" in path.with_suffix(".md").read_text()
