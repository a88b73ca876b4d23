import json

from lab.bench import goals, show
from lab.bench.goals import MIB
from lab.bench.model import VARIANTS, Burst, HooksOnly, Sample, Sizes

MACHINE = {"cpu": "A CPU", "cores": 2, "kernel": "6.1", "load": 0.1, "loadAfter": 0.4, "programs": "runc 1"}
HOOKS = HooksOnly(noop=[1.0, 1.1, 1.2], hook=[2.5, 2.6, 2.7])
BURST = Burst(50, 1.0, 1, {"registry": 1, "memory": 49}, [1.0] * 50)


def document():
    samples = [
        Sample(variant.key, turn, 5.0, 50.0 + turn, 1.5 if variant.source else None, variant.source, 1)
        for turn in range(4)
        for variant in VARIANTS
    ]
    sizes = Sizes(30 * MIB, MIB)
    return show.start_document(samples, HOOKS, BURST, goals.of_starts(samples, HOOKS, BURST, sizes), MACHINE)


def test_the_document_has_every_variant_every_sample_and_is_json():
    found = json.loads(json.dumps(document()))
    assert found["version"] == "countersign.bench-start/v1"
    assert [variant["key"] for variant in found["variants"]] == [variant.key for variant in VARIANTS]
    assert (found["rounds"], len(found["samples"])) == (4, 4 * len(VARIANTS))
    warm = found["variants"][2]
    assert (warm["sources"], warm["verifications"], warm["gate"]["median"]) == ({"memory": 4}, 4, 1.5)
    assert warm["start"] == {"n": 4, "median": 51.5, "p95": 53.0, "p99": 53.0}
    assert warm["createAndStart"]["median"] == 56.5
    assert found["hookAlone"]["countersign"]["median"] == 2.6
    assert found["hookAlone"]["overNoOp"]["median"] == 1.5


def test_only_the_no_op_hook_is_not_compared_and_only_countersign_has_time_in_the_gate():
    rows = {row[0]: row for row in show.start_rows(document())}
    assert rows["no-op static hook"][4] == ""
    assert rows["no hook"][2:] == ("51.5 / 53.0 / 53.0", "56.5 / 58.0 / 58.0", "+0.0 (+0.0 … +0.0)", "", "")
    assert rows["countersign, warm"][4:] == ("+0.0 (+0.0 … +0.0)", "1.50 / 1.50 / 1.50", "4")


def test_goals_are_marked():
    missed = goals.Goal("slow", 3.14159, 2, "ms")
    met = goals.Goal("few", 1, 1, "")
    assert show.goal_rows(show.goal_values([missed, met])) == [
        ("slow", "3.142 ms", "≤ 2 ms", "✗"),
        ("few", "1", "≤ 1", "✓"),
    ]


def test_the_markdown_has_both_tables_and_says_on_what_machine(tmp_path):
    found = document()
    path = show.save(tmp_path / "report", "bench-start", found, [(show.START_COLUMNS, show.start_rows(found))])
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))
    text = path.with_suffix(".md").read_text()
    lines = text.splitlines()
    assert lines[0] == "| " + " | ".join(show.START_COLUMNS) + " |"
    assert lines[1] == "|" + " --- |" * len(show.START_COLUMNS)
    assert "| countersign, warm | 4 | 51.5 / 53.0 / 53.0 |" in text
    assert "| goal | found | limit |  |\n| --- | --- | --- | --- |\n| warm, added by the hook alone" in text
    assert lines[-1] == "A CPU, 2 cores, Linux 6.1, runc 1; load average 0.1 before and 0.4 after."


def test_signing_is_shown_way_by_way():
    found = show.sign_document(
        {"ours": [0.2, 0.3, 0.1], "theirs": [1.0, 1.0, 1.0]}, goals.of_signing([0.2], [1.0]), MACHINE
    )
    assert found["version"] == "countersign.bench-sign/v1"
    assert show.sign_rows(found) == [("ours", "3", "0.200 / 0.300 / 0.300"), ("theirs", "3", "1.000 / 1.000 / 1.000")]
