from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.few_view import FewViewSettings
from models.limits import Limits
from models.training import few_view, few_view_scans
from models.training.few_view import train
from models.weights import load_card
from tests.models.training.test_diffusion import SETTINGS
from tests.models.training.test_enhancement import patients

METHOD = FewViewSettings(seeds=2, iterations=2, tv_iterations=5)


@pytest.fixture
def small_slices_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_view_scans, "LEAST_PIXELS", 32)
    monkeypatch.setattr(few_view, "FEW_VIEWS", 12)


@pytest.mark.usefixtures("small_slices_are_whole")
def test_training_states_limits_that_were_measured_on_patients_who_are_not_for_testing(tmp_path: Path) -> None:
    test_patient = replace(patients()[0], patient_id="T", split="test", hu_zyx=np.full((3, 64, 64), 900.0, np.float32))
    card = load_card(str(train([*patients(), test_patient], SETTINGS, METHOD, tmp_path, "tiny")))
    alone = load_card(str(train(patients(), SETTINGS, METHOD, tmp_path / "alone", "tiny")))
    assert {"projection_residual", "seed_spread_hu", "null_space_share"} < set(card.limits)
    assert "slice_spacing_outside_mm" not in card.limits
    assert card.limits == alone.limits
    assert card.limits["projection_residual"].hold_above >= card.limits["projection_residual"].flag_above > 0.5
    assert card.limits["missing_views_fraction"] == Limits(flag_above=0.0, hold_above=0.05)
    assert "12 of 800 views" in card.text and card.text.count("## Stability limits") == 1


def test_without_whole_slices_there_are_no_limits_so_everything_is_held(tmp_path: Path) -> None:
    assert load_card(str(train(patients(), SETTINGS, METHOD, tmp_path, "tiny"))).limits == {}
