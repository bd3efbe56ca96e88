"""Public tables of survival: what is known of these patients is found in them."""

import numpy as np
import pytest

from models.survival.cohort import Cohort
from models.survival.cox_model import CoxModel, CoxSettings, fit_cox
from models.survival.kaplan_meier import kaplan_meier
from models.survival.validation import held_out_c_index, repeated_nested
from tests.models.survival.tables import LUMIERE, LUNG1, lumiere, lung1

pytestmark = pytest.mark.skipif(not LUMIERE.exists() or not LUNG1.exists(), reason="no tables below RTNODE_DATA")


def procedure(training: Cohort, random: np.random.Generator) -> CoxModel:
    return fit_cox(training, CoxSettings(penalties=8, inner_folds=3, smallest_penalty=0.1), random)


def test_lung1_lives_as_long_as_was_published() -> None:
    """Median survival of the cohort is about 1.5 years; Aerts et al., Nat Commun 2014, doi 10.1038/ncomms5006."""
    assert kaplan_meier(lung1()["clinical"]).median() == pytest.approx(1.5 * 365.0, rel=0.05)


def test_stage_and_age_tell_a_little_of_lung1() -> None:
    cohort = lung1()["clinical"]
    found = held_out_c_index(cohort, repeated_nested(cohort, procedure, 5, 1), 200)
    assert found.low > 0.5
    assert found.value < 0.65


def test_images_taken_later_tell_of_lumiere() -> None:
    cohort = lumiere()
    assert (len(cohort.patients), cohort.rows) == (90, 573)
    found = held_out_c_index(cohort, repeated_nested(cohort, procedure, 5, 1), 200)
    assert found.low > 0.5
