import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.simulated_oedema import OedemaCohortSettings, oedema_cohort


def test_the_effect_of_swelling_is_found_again_by_logistic_regression() -> None:
    cohort = oedema_cohort(OedemaCohortSettings(patients=40_000, effect=1.5), np.random.default_rng(0))
    standard = (cohort.oedema - cohort.oedema.mean()) / cohort.oedema.std()
    fitted = LogisticRegression(C=1e6).fit(standard[:, None], cohort.poor)
    assert float(fitted.coef_[0, 0]) == pytest.approx(1.5, abs=0.06)
    assert float(fitted.intercept_[0]) == pytest.approx(0.4, abs=0.06)


def test_without_effect_swelling_says_nothing_of_the_outcome() -> None:
    cohort = oedema_cohort(OedemaCohortSettings(patients=40_000, effect=0.0), np.random.default_rng(0))
    assert roc_auc_score(cohort.poor, cohort.oedema) == pytest.approx(0.5, abs=0.01)
    assert np.ptp(cohort.risk) == 0.0
