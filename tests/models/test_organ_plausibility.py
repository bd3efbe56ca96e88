"""How plausible organs are: every measure against the figure that arithmetic gives."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.intensity import Mask
from models.organ_plausibility import (
    POLICY,
    UNITS,
    height_missing_mm,
    outside_part,
    plausibility_measures,
    sides_swapped,
    stray_part,
)
from models.weights import Card
from tests.models.test_weights import FACTS

SHAPE, SPACING = (10, 20, 30), (3.0, 2.0, 2.0)
HU = np.zeros(SHAPE, np.float32)
VOXEL_ML = 0.012


def card(height_mm: tuple[float, float] | None = None, **organ_ml: tuple[float, float]) -> Card:
    domain = {**FACTS["training_domain"], "height_mm": height_mm}
    return Card.model_validate(
        {**FACTS, "name": "made", "sha256": "0" * 64, "training_domain": domain, "organ_ml": organ_ml}
    )


def box(start: tuple[int, int, int], size: tuple[int, int, int]) -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))] = True
    return mask


NOTHING = np.zeros(SHAPE, bool)


def measured(
    masks: dict[str, Mask], of: Card | None = None, hu_zyx: NDArray[Any] = HU, **mean_probability: float
) -> dict[str, float]:
    sure = {organ: 0.9 if mask.any() else float("nan") for organ, mask in masks.items()}
    return plausibility_measures(of or card(), hu_zyx, SPACING, masks, {**sure, **mean_probability})


def test_every_measure_has_a_unit_and_none_says_anything_against_an_usual_organ() -> None:
    found = measured({"Bladder": box((2, 2, 2), (5, 10, 10))}, card((30.0, 60.0), Bladder=(5.0, 7.0)), Bladder=1.0)
    assert set(found) < set(UNITS)
    assert "sides_swapped" in found
    assert not any(found.values())


def test_a_calibrated_card_knows_that_an_organ_ought_to_be_in_the_scan() -> None:
    hu = np.full(SHAPE, 50.0, np.float32)
    usual = {"organ_places_mm": {"Bladder": (0.0, 7.5, 15.0), "Rectum": (-18.0, -6.0, 6.0)}}
    calibrated = card(Bladder=(5.0, 7.0)).model_copy(
        update={"usual": {"bladder_hu": 0.0, "bladder_hu_sd": 9.0}, **usual}
    )
    masks = {"Bladder": box((2, 2, 2), (5, 10, 10)), "Rectum": NOTHING}
    # The bladder begins 6 mm above the first slice: of the 24 mm of the rectum 12 lie in the scan.
    assert measured(masks, calibrated, hu)["missing_organ_part"] == pytest.approx(0.5)
    missing = measured({**masks, "Bladder": NOTHING}, calibrated, hu)
    assert missing["missing_organ_part"] == 1.0
    assert set(POLICY) <= set(missing)


def test_what_is_written_is_measured_where_it_is_not_all_that_was_found() -> None:
    whole, crumb = box((1, 1, 1), (3, 5, 6)), box((7, 15, 20), (1, 2, 5))
    calibrated = card(Bladder=(1.0, 1.1)).model_copy(update={"usual": {"bladder_hu": 0.0, "bladder_hu_sd": 9.0}})
    both, sure = {"Bladder": whole | crumb}, {"Bladder": 0.9}
    kept = plausibility_measures(calibrated, HU, SPACING, both, sure, {"Bladder": whole})
    assert kept["stray_part"] == pytest.approx(0.1)
    assert kept["piece_apart_ml"] == kept["volume_outside_part"] == 0.0
    everything = plausibility_measures(calibrated, HU, SPACING, both, sure)
    assert everything["piece_apart_ml"] == pytest.approx(10 * VOXEL_ML)
    assert everything["volume_outside_part"] > 0.0


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [(500, 0.0), (1000, 0.0), (250, 1.0), (1500, 0.5), (2000, 1.0)],
)
def test_a_volume_is_outside_by_its_distance_to_the_nearer_end_of_the_usual_range(voxels: int, expected: float) -> None:
    usual = (500 * VOXEL_ML, 1000 * VOXEL_ML)
    assert outside_part(voxels * VOXEL_ML, usual) == pytest.approx(expected)
    # The same voxels counted on the grid of an image: 5 slices of 10 rows.
    bladder = box((2, 2, 2), (5, 10, voxels // 50)) if voxels <= 1000 else None
    if bladder is not None:
        found = measured({"Bladder": bladder}, card(Bladder=usual))
        assert found["volume_outside_part"] == pytest.approx(expected)


def test_the_worst_organ_counts_and_one_of_unknown_volume_does_not() -> None:
    masks = {name: box((2, 2, 2), (2, 5, 10)) for name in ("Bladder", "Rectum", "Prostate")}
    found = measured(masks, card(Bladder=(1.2, 2.0), Rectum=(2.4, 3.0)))
    assert found["volume_outside_part"] == pytest.approx(1.0)
    assert outside_part(100.0, None) == 0.0
    assert outside_part(1.0, (0.0, 0.0)) > 1e6


def test_what_lies_apart_from_an_organ_is_told_as_its_part() -> None:
    whole, crumb = box((1, 1, 1), (3, 5, 6)), box((7, 15, 20), (1, 2, 5))
    assert stray_part(whole) == 0.0
    assert stray_part(whole | crumb) == pytest.approx(10 / 100)
    # Touching by an edge is not hanging together.
    assert stray_part(box((0, 0, 0), (1, 1, 3)) | box((1, 1, 0), (1, 1, 1))) == pytest.approx(1 / 4)
    assert measured({"Bladder": whole, "Rectum": whole | crumb})["stray_part"] == pytest.approx(0.1)


@pytest.mark.parametrize(("left_column", "swapped"), [(20, 0), (3, 1), (10, 0)])
def test_a_left_organ_has_to_lie_to_the_left_of_its_right_one(left_column: int, swapped: int) -> None:
    pair = {"Parotid_L": box((3, 3, left_column), (2, 2, 2)), "Parotid_R": box((3, 3, 10), (2, 2, 2))}
    assert sides_swapped(pair) == swapped
    assert measured(pair)["sides_swapped"] == swapped


def test_only_pairs_of_which_both_were_found_have_sides() -> None:
    here = box((3, 3, 3), (2, 2, 2))
    pairs = {"Parotid_L": here, "Parotid_R": NOTHING, "Kidney_L": here, "SpinalCord": here, "Lens_R": here}
    assert measured(pairs)["sides_swapped"] == 0.0
    both = {f"{organ}_{side}": box((0, 0, 5 if side == "L" else 15), (1, 1, 2)) for organ in "AB" for side in "LR"}
    assert sides_swapped(both) == 2


def test_the_side_is_that_of_the_centre_and_not_of_one_end() -> None:
    wide = box((3, 3, 0), (2, 2, 2)) | box((3, 3, 20), (2, 2, 10))
    assert sides_swapped({"Lung_L": wide, "Lung_R": box((3, 3, 9), (2, 2, 2))}) == 0


@pytest.mark.parametrize(
    ("known", "height", "missing"),
    [((60.0, 90.0), 30.0, 30.0), ((60.0, 90.0), 60.0, 0.0), ((60.0, 90.0), 500.0, 0.0), (None, 3.0, 0.0)],
)
def test_a_scan_is_too_short_by_what_it_lacks_of_the_shortest_one(
    known: tuple[float, float] | None, height: float, missing: float
) -> None:
    assert height_missing_mm(card(known), height) == missing


def test_the_height_is_that_of_all_slices() -> None:
    assert measured({"Bladder": NOTHING}, card((42.0, 90.0)))["height_missing_mm"] == pytest.approx(12.0)


def test_the_organ_that_the_network_is_least_sure_of_decides_about_the_doubt() -> None:
    here = box((3, 3, 3), (2, 2, 2))
    found = measured({"Bladder": here, "Rectum": here, "Prostate": NOTHING}, Bladder=0.95, Rectum=0.7)
    assert found["organ_doubt"] == pytest.approx(0.3)
    assert found["organs_not_found"] == 1.0


def test_where_nothing_was_found_there_is_nothing_but_doubt() -> None:
    found = measured({"Bladder": NOTHING, "Rectum": NOTHING})
    assert (found["organ_doubt"], found["organs_not_found"]) == (1.0, 2.0)
    assert (found["stray_part"], found["volume_outside_part"], found["sides_swapped"]) == (0.0, 0.0, 0.0)


def test_an_image_is_compared_with_those_of_the_training() -> None:
    hu = np.full(SHAPE, -1000.0, np.float32)
    hu[:, 5:15, 5:25] = 50.0
    found = measured({"Bladder": NOTHING}, hu_zyx=hu)
    assert found["body_mean_departure_sd"] == pytest.approx(2.5)
    assert plausibility_measures(card(), hu, (7.0, 6.0, 6.0), {}, {})["slice_spacing_outside_mm"] == 2.0


def test_looks_disagree_about_the_worst_of_the_wanted_organs_only() -> None:
    wanted = {"Parotid_L": box((2, 2, 2), (4, 4, 4)), "Parotid_R": NOTHING}
    calibrated = card().model_copy(update={"usual": {"organ_shift_sd": 1.0}})
    looks = {"Parotid_L": 0.2, "Parotid_R": 0.3, "Larynx": 0.9}
    sure = dict.fromkeys(wanted, 0.9)
    found = plausibility_measures(calibrated, HU, SPACING, wanted, sure, look_disagreement=looks)
    assert found["look_disagreement"] == 0.3
    assert "look_disagreement" not in plausibility_measures(card(), HU, SPACING, wanted, sure, look_disagreement=looks)
