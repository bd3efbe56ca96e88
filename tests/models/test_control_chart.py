"""Control charts: a published example, and series that break one rule by construction."""

import numpy as np
import pytest

from models.control_chart import Baseline, baseline_of, broken_rules

STANDARD = Baseline(mean=0.0, sigma=1.0)
QUIET = [0.5, -1.2, 0.3, -0.4, 1.4, 0.2, -0.7, 0.1, -0.2, 0.9, -1.1, -0.3, 0.4, 0.6, -0.6]
"""Breaks no rule."""


def test_limits_are_those_of_the_published_example() -> None:
    """NIST/SEMATECH e-Handbook 6.3.2.2: flow rates of ten batches."""
    flow_rates = [49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]
    baseline = baseline_of(flow_rates)
    assert baseline.mean == pytest.approx(50.81)
    assert baseline.limits(3.0) == pytest.approx((45.8159, 55.8041), abs=1e-4)


def test_one_value_makes_no_baseline() -> None:
    with pytest.raises(ValueError, match="a baseline of 1 values"):
        baseline_of([1.0])


def test_a_quiet_series_breaks_no_rule_anywhere() -> None:
    assert [broken_rules(QUIET[:count], STANDARD) for count in range(len(QUIET) + 1)] == [()] * (len(QUIET) + 1)


@pytest.mark.parametrize(
    ("rule", "breaking", "last_that_does_not"),
    [
        (1, [3.01], 2.99),
        (2, [0.5, 0.6, 0.2, 0.4, 0.9, 0.1, 0.3, 0.2, 0.4], -0.4),
        (3, [-0.9, -0.4, -0.1, 0.2, 0.5, 0.8], 0.5),
        (4, [1.2, -0.3] * 7, 1.3),
        (5, [2.1, 0.0, 2.1], 1.9),
        (6, [1.1, -0.2, 1.3, 1.1, 1.2], 0.9),
        (7, [0.5, 0.6, -0.4, 0.3, 0.1, -0.2, -0.1, -0.6, 0.2, 0.4, 0.7, -0.7, -0.1, 0.2, 0.3], 1.1),
        (8, [1.1, -1.2, -1.3, 1.4, 1.2, -1.3, -1.2, 1.1], 0.9),
    ],
)
def test_each_rule_is_broken_by_its_own_pattern_and_no_less(
    rule: int, breaking: list[float], last_that_does_not: float
) -> None:
    before = [] if rule in (4, 7) else [0.4, -1.1, 0.2]
    values = np.array(before + breaking)
    assert broken_rules(values.tolist(), STANDARD) == (rule,)
    # On the other side of the mean, in another unit, it is the same.
    assert broken_rules((5.0 - 10.0 * values).tolist(), Baseline(mean=5.0, sigma=10.0)) == (rule,)
    assert rule not in broken_rules([*before, *breaking[:-1], last_that_does_not], STANDARD)
    assert rule not in broken_rules(breaking[1:], STANDARD)


def test_a_count_that_was_always_the_same_breaks_the_first_rule_when_it_changes() -> None:
    always = baseline_of([0.0, 0.0, 0.0])
    assert broken_rules([0.0] * 20, always) == ()
    assert broken_rules([0.0] * 20 + [1.0], always) == (1,)
