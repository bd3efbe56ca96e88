from dataclasses import replace

import numpy as np
import pytest

from models.early_stopping import StopReason
from models.few_view import FewViewResult
from models.few_view_measures import Evidence, evidence_of, few_view_measures, joined
from models.intensity import Hu
from models.scan_simulation import attenuation_per_mm
from tests.models.test_few_view import PHANTOM_HU, SCAN, WATER_PER_MM, card, measured

SEEN = np.ones(SCAN.image_shape, np.bool_)
SPACING = (3.0, 6.0, 6.0)


def result_of(hu: Hu, spread_hu: float = 0.0) -> FewViewResult:
    images = attenuation_per_mm(hu, WATER_PER_MM)
    spread = np.full_like(images, spread_hu * WATER_PER_MM / 1000.0)
    reason: StopReason = "noise level"
    return FewViewResult(images, spread, (reason,) * len(hu), (1.0,) * len(hu))


def evidence(photons: float = 1e4, spread_hu: float = 0.0) -> Evidence:
    return evidence_of(measured(photons), result_of(PHANTOM_HU, spread_hu), WATER_PER_MM, SEEN)


def test_the_truth_leaves_little_more_than_the_noise() -> None:
    measures = few_view_measures(evidence(photons=300.0), card().training_domain, SPACING, 0.0)
    assert 1.0 < measures["projection_residual"] < 1.6


def test_an_image_of_something_else_does_not_explain_the_rays() -> None:
    wrong = evidence_of(measured(), result_of(PHANTOM_HU + 50.0), WATER_PER_MM, SEEN)
    right = few_view_measures(evidence(), card().training_domain, SPACING, 0.0)
    measures = few_view_measures(wrong, card().training_domain, SPACING, 0.0)
    assert measures["projection_residual"] > 3.0 * right["projection_residual"]


def test_spread_missing_views_and_pixels_are_passed_on_in_their_units() -> None:
    domain = card().training_domain.model_copy(update={"pixel_spacing_mm": (1.0, 2.0)})
    measures = few_view_measures(evidence(spread_hu=7.0), domain, SPACING, 0.03)
    assert measures["seed_spread_hu"] == pytest.approx(7.0, rel=1e-4)
    assert measures["missing_views_fraction"] == 0.03
    assert measures["pixel_spacing_outside_mm"] == pytest.approx(4.0)
    assert "slice_spacing_outside_mm" not in measures


def test_a_patient_who_reaches_beyond_the_detector_shows_at_its_edge() -> None:
    inside, rays = measured(), measured()
    cut = replace(rays, line_integrals=rays.line_integrals + np.float32(0.8))
    edges = [
        few_view_measures(
            evidence_of(one, result_of(PHANTOM_HU), WATER_PER_MM, SEEN), card().training_domain, SPACING, 0.0
        )["outside_field_line_integral"]
        for one in (inside, cut)
    ]
    assert edges[0] == pytest.approx(0.0, abs=0.01) and edges[1] == pytest.approx(0.8, abs=0.01)


def test_slices_of_several_parts_come_in_the_order_of_the_stack() -> None:
    rays, whole = measured(), evidence()
    parts = [
        evidence_of(rays.of(slice(n, n + 1)), result_of(PHANTOM_HU[n : n + 1]), WATER_PER_MM, SEEN) for n in (1, 0)
    ]
    found = joined(parts, [1, 0])
    np.testing.assert_allclose(found.hu, whole.hu, atol=1e-3)
    np.testing.assert_allclose(np.stack(found.residuals), np.stack(whole.residuals), rtol=1e-3)
