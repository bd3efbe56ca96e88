"""Curves and tests against the published figures of the 6-mercaptopurine trial.

Kaplan-Meier, log-rank 16.79, and Cox's coefficient 1.57 with Efron's ties are in Klein and Moeschberger, Survival
Analysis, 2003, and in Collett, Modelling Survival Data, 2015.
"""

import numpy as np
import pytest
from scipy.stats import chi2

from models.survival.cohort import SurvivalError
from models.survival.group_comparison import hazard_ratio, log_rank_p
from models.survival.kaplan_meier import kaplan_meier
from tests.models.survival.patients import RELAPSED, TREATED_WK, cut_at, leukaemia, of_times

PUBLISHED = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
PUBLISHED_BAND = {6: (0.620, 0.952), 10: (0.503, 0.889), 23: (0.188, 0.680)}


def test_the_curve_of_the_treated_is_the_published_one() -> None:
    found = kaplan_meier(of_times(TREATED_WK, RELAPSED))
    assert dict(zip(found.times.tolist(), found.survival.round(3).tolist(), strict=True)) == PUBLISHED
    assert found.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    for time, band in PUBLISHED_BAND.items():
        assert found.at(time)[1:] == pytest.approx(band, abs=5e-4)


def test_the_curve_is_a_staircase() -> None:
    found = kaplan_meier(of_times(TREATED_WK, RELAPSED))
    assert found.at(5.9) == (1.0, 1.0, 1.0)
    assert found.at(6.9) == found.at(6.0)
    assert found.median() == 23.0
    assert kaplan_meier(of_times([1, 2, 3, 4], [1, 0, 0, 0])).median() == float("inf")


def test_the_last_death_ends_the_curve_without_a_band() -> None:
    assert kaplan_meier(of_times([1, 2], [1, 1])).at(2.0) == (0.0, 0.0, 0.0)


def test_the_groups_differ_as_published() -> None:
    patients, placebo = leukaemia()
    assert log_rank_p(patients, placebo) == pytest.approx(chi2.sf(16.793, 1), rel=1e-3)
    found = hazard_ratio(patients, placebo)
    assert np.log(found.value) == pytest.approx(1.5721, abs=1e-4)
    assert np.log([found.low, found.high]) == pytest.approx([1.5721 - 1.96 * 0.4124, 1.5721 + 1.96 * 0.4124], abs=1e-3)


@pytest.mark.parametrize("times", [(8.0,), (3.5, 6.0, 11.0)])
def test_patients_whose_rows_are_cut_are_the_same_patients(times: tuple[float, ...]) -> None:
    patients, placebo = leukaemia()
    cut = cut_at(patients, *times)
    high = placebo[cut.patient]
    assert kaplan_meier(cut).survival == pytest.approx(kaplan_meier(patients).survival)
    assert log_rank_p(cut, high) == pytest.approx(log_rank_p(patients, placebo))
    assert hazard_ratio(cut, high).high == pytest.approx(hazard_ratio(patients, placebo).high, rel=1e-6)


def test_a_very_small_p_is_not_zero() -> None:
    time = np.arange(1.0, 401.0)
    assert 0.0 < log_rank_p(of_times(time.tolist(), [1] * 400), time < 200) < 1e-30


def test_one_group_alone_is_refused() -> None:
    patients, placebo = leukaemia()
    with pytest.raises(SurvivalError, match="not two groups"):
        log_rank_p(patients, np.ones_like(placebo))
    with pytest.raises(SurvivalError, match="no event"):
        hazard_ratio(of_times([1, 2, 3, 4], [1, 1, 0, 0]), np.array([True, True, False, False]))
