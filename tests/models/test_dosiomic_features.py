"""Features of dose: of cold spots whose number, size and depth are known, and of filtered dose."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.dose_samples import DoseRefused
from models.dosiomic_features import DosiomicFeatures, DosiomicSettings, by_name, dosiomic_features
from models.feature_region import FeatureError
from models.ibsi_names import Family

SPACING = (2.0, 2.0, 2.0)
PRESCRIPTION_GY = 100.0
SETTINGS = DosiomicSettings(
    families=(Family.STATISTICS,), filtered_families=(Family.STATISTICS,), log_sigmas_mm=(4.0,), margin_mm=8.0
)


def region() -> NDArray[np.bool_]:
    z, y, x = np.indices((16, 18, 20)) - np.array([8, 9, 10])[:, None, None, None]
    return np.asarray(z**2 + y**2 + x**2 <= 36)


def dose(*cold: tuple[tuple[int, int, int], float]) -> NDArray[np.float64]:
    """150 Gy with voxels of other doses."""
    gy = np.full((16, 18, 20), 150.0)
    for place, value in cold:
        gy[place] = value
    return gy


def found(gy: NDArray[np.float64]) -> DosiomicFeatures:
    return dosiomic_features(gy, region(), SPACING, PRESCRIPTION_GY, SETTINGS)


def test_two_cold_spots_are_two_with_their_depths_and_sizes() -> None:
    gy = dose(((8, 9, 7), 60.0), ((8, 9, 8), 95.0), ((8, 12, 12), 90.0))
    values = by_name(found(gy).topology)
    assert values["h0_count@cold"] == 1.0  # the deeper one is there to the end, and has no length of life
    assert values["h0_life_max@cold"] == pytest.approx(0.6)
    assert values["depth@cold"] == pytest.approx(0.4)
    assert (values["spots@80"], values["spots@90"], values["spots@100"]) == (1.0, 2.0, 2.0)
    assert values["largest_ml@100"] == pytest.approx(2 * 0.008)
    assert values["largest_ml@80"] == pytest.approx(0.008)
    assert values["thickest_mm@100"] == pytest.approx(2.0)


def test_what_lies_outside_the_region_is_no_cold_spot() -> None:
    gy = dose()
    gy[~region()] = 10.0
    values = by_name(found(gy).topology)
    assert values["largest_ml@100"] == values["spots@100"] == values["depth@cold"] == 0.0


def test_a_hole_differs_from_a_rim_of_the_same_volume_although_a_histogram_does_not() -> None:
    inside = np.argwhere(region())
    centre = np.linalg.norm(inside - [8, 9, 10], axis=1)
    hole, rim = inside[np.argsort(centre)][:60], inside[np.argsort(-centre)][:60]
    spots = []
    for places in (hole, rim):
        gy = dose()
        gy[tuple(places.T)] = 80.0
        spots.append(found(gy))
    for name in ("stat_mean@original", "stat_p10@original", "stat_min@original"):
        assert by_name(spots[0].dosiomics)[name] == pytest.approx(by_name(spots[1].dosiomics)[name])
    assert by_name(spots[0].topology)["thickest_mm@100"] > 1.5 * by_name(spots[1].topology)["thickest_mm@100"]
    assert by_name(spots[0].dosiomics)["stat_max@log_4mm"] > 1.5 * by_name(spots[1].dosiomics)["stat_max@log_4mm"]


def test_hot_spots_are_cut_before_anything_is_computed_and_counted() -> None:
    hot = dose(((8, 9, 10), 1e6))
    cut = dose(((8, 9, 10), 200.0))
    assert found(hot).dosiomics == found(cut).dosiomics
    assert found(hot).cut.cut_percent == pytest.approx(100.0 / region().sum())
    assert found(cut).cut.cut_percent == 0.0


def test_dose_and_prescription_in_another_proportion_are_the_same_picture() -> None:
    gy = dose(((8, 9, 7), 60.0), ((8, 12, 12), 90.0))
    double = dosiomic_features(2.0 * gy, region(), SPACING, 2.0 * PRESCRIPTION_GY, SETTINGS)
    assert by_name(double.dosiomics) == by_name(found(gy).dosiomics)


def test_all_bands_and_scales_are_named() -> None:
    images = {one.name.split("@")[1] for one in found(dose(((8, 9, 7), 60.0))).dosiomics}
    bands = {f"wavelet_{a}{b}{c}" for a in "lh" for b in "lh" for c in "lh"}
    assert images == {"original", "log_4mm", *bands}


def test_a_region_of_three_voxels_is_refused() -> None:
    few = np.zeros((16, 18, 20), np.bool_)
    few[8, 9, 9:12] = True
    with pytest.raises(FeatureError, match="The region has 3 voxels; features need at least 64"):
        dosiomic_features(dose(), few, SPACING, PRESCRIPTION_GY, SETTINGS)


def test_a_dose_that_is_no_number_is_refused() -> None:
    with pytest.raises(DoseRefused, match="without a number"):
        found(dose(((8, 9, 10), float("nan"))))
