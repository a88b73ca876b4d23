import pytest

from lab.bench import stats


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert stats.percentile(values, 0.95) == 95
    assert stats.percentile(values, 0.99) == 99
    assert stats.percentile([7.0], 0.99) == 7


def test_with_few_values_the_high_percentiles_are_the_largest_one():
    assert stats.summary([3.0, 1.0, 2.0]) == stats.Summary(3, 2.0, 3.0, 3.0)


def test_a_difference_is_taken_round_by_round():
    base = [10.0, 100.0, 20.0, 50.0]
    found = stats.paired([each + 2 for each in base], base)
    assert found == stats.Difference(2.0, 2.0, 2.0)


def test_the_bounds_of_a_difference_leave_out_the_extremes():
    differences = [float(n) for n in range(60)]
    found = stats.paired(differences, [0.0] * 60)
    assert (found.median, found.low, found.high) == (29.5, 22.0, 38.0)


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="longer"):
        stats.paired([1.0], [1.0, 2.0])
