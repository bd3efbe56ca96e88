"""What speaks for and against the features of a course: of the registrations, the field of view, the outline, the days.

Each is a number that is larger the worse it is, so that limits can be set on it; training measures the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from models.feature_robustness import Subject, refined, resized
from pipelines.base import InputRejected
from pipelines.fractions import CoursePlan, Fraction

Values = Callable[[Subject], Mapping[str, float]]
"""Features by name."""

WHAT = {
    "registration_doubt": "Disagreement of planning CT and image around the GTV, of the fraction where it is largest",
    "registration_inverse_mm": "Registration there and back, largest distance in mm",
    "gtv_outside": "Part of the GTV outside of the field of view, of the fraction where it is largest",
    "feature_spread": "Change of the features with a little smaller or larger outline, median as a part of their value",
    "fractions_missing": "Images that the course should have had by now and has not",
    "feature_distance": "Distance of the features from those of the training patients",
}
"""By measure, for the finding."""
UNITS = {"registration_inverse_mm": "mm"}
OUTLINE_MM = 1.0
_PART_OF_VOXEL = 0.75
"""Less than half a voxel would change nothing where both grids agree."""
_ROOM_MM = 5.0
"""Beyond the margin that the features see, for an outline that moves."""


class Imaged(Protocol):
    """What is asked of the image of a fraction."""

    @property
    def fraction(self) -> Fraction:
        """When it was."""

    @property
    def registration_doubt(self) -> float:
        """How little planning CT and image agree around the tumour."""

    @property
    def registration_inverse_mm(self) -> float:
        """How far there and back are apart."""

    @property
    def outside(self) -> float:
        """Part of the tumour that it does not show."""


def course_measures(imaged: Sequence[Imaged], spread: float, plan: CoursePlan) -> dict[str, float]:
    """The measures by name; one that was not taken is absent."""
    found = {
        "registration_doubt": max(one.registration_doubt for one in imaged),
        "registration_inverse_mm": max(one.registration_inverse_mm for one in imaged),
        "gtv_outside": max(one.outside for one in imaged),
        "feature_spread": spread,
        "fractions_missing": float(fractions_missing([one.fraction.position for one in imaged], plan)),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def fractions_missing(positions: Sequence[float], plan: CoursePlan) -> int:
    """How many of the planned images up to the last one are not there."""
    expected = 1 + round(positions[-1] * (plan.images - 1))
    return max(0, expected - len(positions))


def spread_between_outlines(
    subject: Subject, values: Values, margin_mm: float, voxel_mm: float | None
) -> float:  # fmt: skip
    """How much the features depend on the outline: of the tumour a millimetre smaller and a millimetre larger.

    Where voxels are larger than that, it is three quarters of one.

    Parameters
    ----------
    subject
        The tumour on an image.
    values
        How features are computed.
    margin_mm
        How far around the tumour they see.
    voxel_mm
        Of the grid that they bring the image to; None where they take it as it is. In the first case the outline is
        moved on a fine grid.

    Returns
    -------
    Median over the features of half the difference as a part of the mean. Where the smaller tumour has no features,
    it is the tumour as it is.
    """
    by_mm = max(OUTLINE_MM, _PART_OF_VOXEL * voxel_mm if voxel_mm else max(subject.spacing_zyx_mm))
    whole = refined(subject, margin_mm + _ROOM_MM) if voxel_mm else subject
    large = values(resized(by_mm)(whole))
    try:
        small = values(resized(-by_mm)(whole))
    except InputRejected:
        small = values(whole)
    pairs = np.array([(small[name], large[name]) for name in small if name in large], np.float64)
    means = np.abs(pairs).mean(axis=1)
    usable = np.isfinite(means) & (means > 0.0)
    if not usable.any():
        return 0.0
    return float(np.median(np.abs(pairs[usable, 1] - pairs[usable, 0]) / 2.0 / means[usable]))
