from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from models.block_registration import bend_mm, whole_displacement_zyx_mm
from models.coarse_pair import CoarsePair, coarse_pair
from models.enhancement_measures import (
    UNITS,
    InputMeasured,
    against_usual,
    enhancement_measures,
    input_measured,
    output_changes,
    usual_changes,
)
from models.inference import load_generator
from models.input_faults import metal_ml, soft_tissue_noise_hu, truncated_part
from models.intensity import AIR_HU, Hu, body_mask
from models.phantoms import head_and_neck_phantom
from models.slice_agreement import mirrored_likeness, misplaced_slice_mm
from models.tissue_agreement import tissue_changes
from models.unshared_structure import unshared_structure
from models.witness import expectation

SPACING = (3.0, 4.0, 4.0)
PATIENT = head_and_neck_phantom((64, 96, 96), SPACING, np.random.default_rng(3)).hu_zyx
NOISE = np.random.default_rng(4).normal(0.0, 20.0, PATIENT.shape).astype(np.float32)
NOISY = np.where(PATIENT > -900.0, PATIENT + NOISE, PATIENT).astype(np.float32)
BODY = body_mask(NOISY)


def pair(after: Hu) -> CoarsePair:
    return coarse_pair(NOISY, after, BODY, SPACING)


def moved(by_zyx_mm: tuple[float, float, float]) -> Hu:
    voxels = [mm / size for mm, size in zip(by_zyx_mm, SPACING, strict=True)]
    return np.asarray(ndimage.shift(PATIENT, voxels, order=3, mode="nearest"), np.float32)


@pytest.mark.parametrize(
    "by_zyx_mm", [(0.0, 0.0, 0.0), (0.0, 3.0, 0.0), (3.0, 0.0, 0.0), (0.0, -1.0, 2.0), (-1.0, 0.0, 0.0)]
)
def test_a_shift_is_measured_to_a_third_of_a_millimetre_along_every_axis(by_zyx_mm: tuple[float, float, float]) -> None:
    assert whole_displacement_zyx_mm(pair(moved(by_zyx_mm))) == pytest.approx(by_zyx_mm, abs=0.3)


def test_another_contrast_is_no_shift() -> None:
    darker = np.where(PATIENT > -900.0, 0.7 * PATIENT - 40.0, PATIENT).astype(np.float32)
    assert whole_displacement_zyx_mm(pair(darker)) == pytest.approx((0.0, 0.0, 0.0), abs=0.3)


def test_a_bend_of_the_skin_is_told_from_none() -> None:
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in PATIENT.shape), indexing="ij")
    rows = np.flatnonzero(BODY[32].any(axis=1))
    # At the back of the patient, 3 mm to the front, less around it.
    far = ((z - 32) * 3.0) ** 2 + ((y - rows[-1]) * 4.0) ** 2 + ((x - 48) * 4.0) ** 2
    bent = ndimage.map_coordinates(
        PATIENT, [z, y + 3.0 / 4.0 * np.exp(-far / (2 * 25.0**2)), x], order=1, mode="nearest"
    )
    still, found = bend_mm(pair(PATIENT)), bend_mm(pair(np.asarray(bent, np.float32)))
    assert found > still + 0.5


def test_a_mirrored_output_resembles_the_mirrored_input_more() -> None:
    assert mirrored_likeness(pair(PATIENT)) < 0.0 < mirrored_likeness(pair(np.ascontiguousarray(PATIENT[::-1])))


def test_slices_in_reverse_order_are_found_where_they_came_from() -> None:
    reverse = PATIENT.copy()
    reverse[20:30] = PATIENT[20:30][::-1]
    # The outermost of ten exchanged slices, nine slices apart; its neighbours look alike.
    assert misplaced_slice_mm(pair(PATIENT)) <= SPACING[0]
    assert misplaced_slice_mm(pair(reverse)) >= 5 * SPACING[0]


def test_two_thin_neighbouring_slices_that_have_changed_places_are_found() -> None:
    thin = head_and_neck_phantom((96, 64, 64), (1.5, 4.0, 4.0), np.random.default_rng(3)).hu_zyx
    exchanged = thin.copy()
    exchanged[[40, 41]] = thin[[41, 40]]
    # Averaged to blocks of 3 mm, these two would be the same.
    given = InputMeasured(body_mask(thin), {}, np.zeros(1, np.float32))
    found = [output_changes(given, thin, after, (1.5, 4.0, 4.0))["misplaced_slice_mm"] for after in (thin, exchanged)]
    assert found == [0.0, 1.5]


def test_an_erased_region_has_no_structure_in_common_with_the_input() -> None:
    erased = PATIENT.copy()
    middle = np.argwhere(PATIENT > 300.0).mean(axis=0).astype(int)
    part = tuple(slice(max(0, m - 10), m + 10) for m in middle)
    erased[part] = 40.0
    still, found = unshared_structure(pair(PATIENT)), unshared_structure(pair(erased))
    assert found.lost_hu > still.lost_hu + 30.0


def test_changes_of_tissue_are_signed_and_held_against_the_usual() -> None:
    changes = tissue_changes(pair(np.where(BODY, PATIENT + 30.0, PATIENT).astype(np.float32)))
    assert changes["muscle_change_hu"] == pytest.approx(30.0, abs=5.0)
    assert changes["fat_change_hu"] == pytest.approx(30.0, abs=8.0)
    assert changes["contrast_gain"] == pytest.approx(1.0, abs=0.05)
    stronger = tissue_changes(pair(np.where(BODY, 1.2 * NOISY, NOISY).astype(np.float32)))
    assert stronger["contrast_gain"] == pytest.approx(1.2, abs=0.005)
    departures = against_usual({"muscle_change_hu": 30.0, "edge_shift_mm": 0.5}, {"muscle_change_hu": 25.0})
    assert departures == {"muscle_departure_hu": 5.0, "edge_shift_mm": 0.5}
    assert usual_changes([{"fat_change_hu": 1.0}, {"fat_change_hu": 2.0}, {}]) == {"fat_change_hu": 1.5}


def test_noise_metal_and_a_cut_off_body_are_measured_in_the_input() -> None:
    assert soft_tissue_noise_hu(40.0 + NOISE, BODY) == pytest.approx(20.0, rel=0.03)
    with_metal = NOISY.copy()
    there = np.argwhere(BODY)[:: max(1, int(BODY.sum()) // 100)][:100]
    with_metal[tuple(there.T)] = 3000.0
    assert metal_ml(NOISY, BODY, SPACING) == 0.0
    # 100 voxels of 48 cubic millimetres.
    assert metal_ml(with_metal, BODY, SPACING) == pytest.approx(4.8)
    y, x = np.ogrid[:96, :96]
    cut = np.where(np.hypot(y - 47.5, x - 47.5) > 16.0, np.float32(AIR_HU), PATIENT)
    assert truncated_part(cut, body_mask(cut)) > 0.5 > 0.3 > truncated_part(PATIENT, body_mask(PATIENT))


def test_a_narrower_window_is_expected_and_so_nothing_departs_by_it() -> None:
    model = load_generator("mvct_to_kvct_headneck")
    window = (-600.0, 400.0)
    made = expectation(model.witness, NOISY) if model.witness else None
    assert made is not None
    windowed = made.within(window, NOISY).expected_hu_zyx
    knowing, unknowing = (enhancement_measures(model, NOISY, windowed, SPACING, of) for of in (window, None))
    assert knowing["unexpected_structure"] == 0.0 < unknowing["unexpected_structure"]
    assert knowing["registration_shift_mm"] == pytest.approx(0.0, abs=1e-6)


def test_every_measure_has_a_unit_and_an_image_of_air_none_above_zero(tmp_path: Path) -> None:
    model = load_generator("mvct_to_kvct_headneck")
    air = np.full((8, 32, 32), AIR_HU, np.float32)
    given = input_measured(model, air, SPACING)
    measures = {
        **given.measures,
        **against_usual(output_changes(given, air, air, SPACING), {"skin_steepness": 1.0}),
    }
    assert set(measures) <= set(UNITS)
    apart = {"mirrored_likeness", "body_mean_departure_sd", "feature_distance"}
    assert {value for name, value in measures.items() if name not in apart} == {0.0}
