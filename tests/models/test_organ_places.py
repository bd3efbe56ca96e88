"""Where organs lie along a patient, and whether a missing one ought to be seen: boxes of known height."""

import numpy as np
import pytest

from models.intensity import Mask
from models.organ_places import missing_organ_part, places, usual_places

SPACING = (3.0, 2.0, 2.0)
BODY = np.ones((40, 4, 4), bool)


def box(first: int, last: int) -> Mask:
    mask = np.zeros(BODY.shape, bool)
    mask[first : last + 1, 1:3, 1:3] = True
    return mask


NOTHING = np.zeros(BODY.shape, bool)
USUAL = {"Brain": (0.0, 15.0, 30.0), "Cord": (-60.0, -30.0, 0.0), "Esophagus": (-90.0, -75.0, -60.0)}


def test_a_place_is_both_ends_and_the_middle_in_mm() -> None:
    assert places({"Brain": box(30, 33), "Cord": NOTHING}, 3.0) == {"Brain": (90.0, 96.0, 102.0)}


def test_patients_are_laid_on_each_other_by_their_organs_whatever_the_scan_begins_with() -> None:
    several = [
        places({"Brain": box(20 + up, 29 + up), "Cord": box(5 + up, 19 + up)}, 3.0)
        | ({"Esophagus": (3.0 * up, 3.0 * up + 6.0, 3.0 * up + 12.0)} if up != 3 else {})
        for up in (0, 3, 7)
    ]
    usual = usual_places(several)
    (lower, _, upper), (_, cord, _) = usual["Brain"], usual["Cord"]
    assert (upper - lower, lower - cord) == pytest.approx((30.0, 22.5))
    assert lower - usual["Esophagus"][2] == pytest.approx(48.0)
    assert "Esophagus" not in usual_places(several[:2])


@pytest.mark.parametrize(("first_of_body", "expected"), [(0, 1.0), (5, 0.5), (10, 0.0), (20, 0.0)])
def test_a_missing_organ_ought_to_be_there_as_far_as_the_scan_goes(first_of_body: int, expected: float) -> None:
    # The origin lies at 90 mm, so the oesophagus at 0 to 30 mm, slices 0 to 9.
    masks = {"Brain": box(30, 39), "Cord": box(10, 29), "Esophagus": NOTHING}
    body = BODY.copy()
    body[:first_of_body] = False
    assert missing_organ_part(masks, body, SPACING, USUAL) == pytest.approx(expected)


def test_an_organ_that_was_found_is_not_missing_and_one_that_nobody_knows_is() -> None:
    found = {"Brain": box(30, 39), "Esophagus": box(0, 9)}
    assert missing_organ_part(found, BODY, SPACING, USUAL) == 0.0
    assert missing_organ_part({**found, "Larynx": NOTHING}, BODY, SPACING, USUAL) == 1.0


def test_where_nothing_was_found_everything_is_missing() -> None:
    assert missing_organ_part({"Brain": NOTHING}, BODY, SPACING, USUAL) == 1.0
    assert missing_organ_part({"Brain": NOTHING}, NOTHING, SPACING, USUAL) == 1.0
    assert missing_organ_part({}, BODY, SPACING, USUAL) == 0.0


def test_one_wrong_organ_does_not_move_the_patient() -> None:
    masks = {"Brain": box(30, 39), "Cord": box(10, 29), "Larynx": box(2, 3), "Esophagus": NOTHING}
    usual = {**USUAL, "Larynx": (40.0, 45.0, 50.0)}
    assert missing_organ_part(masks, BODY, SPACING, usual) == pytest.approx(1.0)
