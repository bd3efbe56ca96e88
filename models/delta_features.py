"""How features change during a course of treatment: the delta sets.

A course runs from 0, its first fraction, to 1, its last planned one. Three of its images stand for time points: early
is the first in the window EARLY, middle the one nearest to one half in MIDDLE and behind early, late the last in LATE
and behind middle. So of five images 1, 3 and 5 are taken; where one is missing its neighbour stands in for it.

The sets are 17: five kinds of change between each two time points, and the slope of all images from early to late, as
it is and relative to the early value. Nakamoto et al. tell the number of sets and of kinds, and name only the best,
`early_middle_absolute_relative`; the other kinds and the slopes are this program's choice.

References
----------
Nakamoto et al., Phys Med 2024, 117:103182
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

NEAR_ZERO = 0.01
"""A first value smaller than this part of the second one is no measure of the change; its ratios are not defined."""


class TimePoint(StrEnum):
    """What the images of a course are compared at."""

    EARLY = "early"
    MIDDLE = "middle"
    LATE = "late"


EARLY = (0.0, 0.4)
MIDDLE = (0.4, 0.8)
LATE = (0.6, 1.0)
"""Positions in the course, both ends included but the upper one of EARLY. MIDDLE and LATE overlap, so that the fourth
of five images can stand in for the third or the fifth."""
PAIRS = (
    (TimePoint.EARLY, TimePoint.MIDDLE),
    (TimePoint.MIDDLE, TimePoint.LATE),
    (TimePoint.EARLY, TimePoint.LATE),
)


@dataclass(frozen=True)
class CourseImage:
    """Features of one image of a course."""

    position: float
    """0 at the first fraction, 1 at the last planned one."""
    values: Mapping[str, float]


def difference(first: float, second: float) -> float:
    """F_b - F_a."""
    return second - first


def absolute(first: float, second: float) -> float:
    """|F_b - F_a|."""
    return abs(second - first)


def relative(first: float, second: float) -> float:
    """(F_b - F_a) / F_a; 0 where both are 0, nan where F_a is near zero."""
    if first == second:
        return 0.0
    return math.nan if _is_near_zero(first, second) else (second - first) / first


def absolute_relative(first: float, second: float) -> float:
    """|(F_b - F_a) / F_a|; as `relative`."""
    return abs(relative(first, second))


def log_ratio(first: float, second: float) -> float:
    """log(F_b / F_a); 0 where both are equal, nan where they differ in sign or one is near zero."""
    if first == second:
        return 0.0
    if _is_near_zero(first, second) or _is_near_zero(second, first) or first * second < 0.0:
        return math.nan
    return math.log(second / first)


KINDS: Mapping[str, Callable[[float, float], float]] = {
    "difference": difference,
    "absolute": absolute,
    "relative": relative,
    "absolute_relative": absolute_relative,
    "log_ratio": log_ratio,
}
SLOPES = ("slope_to_late", "relative_slope_to_late")
"""Of all images from early to late. A slope up to the middle would be no other set: of three images at equal distances
it is the difference of the outer two."""
SET_NAMES: tuple[str, ...] = (*(f"{a}_{b}_{kind}" for a, b in PAIRS for kind in KINDS), *SLOPES)
"""The 17 sets."""


def course_position(number: int, planned: int) -> float:
    """Where fraction `number`, counted from 1, of `planned` ones lies in the course; beyond the last one it is 1.

    Raises
    ------
    ValueError
        If a number is not above 0, or less than two fractions are planned.
    """
    if number < 1 or planned < 2:
        raise ValueError("fractions are counted from 1, and a course has two of them at least")
    return min(1.0, (number - 1) / (planned - 1))


def time_points(positions: Sequence[float]) -> dict[TimePoint, int]:
    """Which image stands for which time point: indices into `positions`, which ascend."""
    found: dict[TimePoint, int] = {}
    early = [index for index, at in enumerate(positions) if EARLY[0] <= at < EARLY[1]]
    if early:
        found[TimePoint.EARLY] = early[0]
    middle = [index for index, at in enumerate(positions) if MIDDLE[0] <= at <= MIDDLE[1]]
    if middle:
        found[TimePoint.MIDDLE] = min(middle, key=lambda index: (abs(positions[index] - 0.5), positions[index]))
    behind = found.get(TimePoint.MIDDLE, found.get(TimePoint.EARLY, -1))
    late = [index for index, at in enumerate(positions) if LATE[0] <= at <= LATE[1] and index > behind]
    if late:
        found[TimePoint.LATE] = late[-1]
    return found


def needed(set_name: str) -> tuple[TimePoint, ...]:
    """The time points that a set compares.

    Raises
    ------
    KeyError
        If there is no such set.
    """
    if set_name in SLOPES:
        return TimePoint.EARLY, TimePoint.LATE
    return {f"{a}_{b}_{kind}": (a, b) for a, b in PAIRS for kind in KINDS}[set_name]


def delta_sets(images: Sequence[CourseImage]) -> dict[str, dict[str, float]]:
    """The sets whose time points are there, each with one value for every feature that all of its images have.

    Parameters
    ----------
    images
        In the order of the course.

    Raises
    ------
    ValueError
        If the positions do not ascend.
    """
    positions = [image.position for image in images]
    if any(later < earlier for earlier, later in pairwise(positions)):
        raise ValueError("the images are not in the order of the course")
    points = time_points(positions)
    found: dict[str, dict[str, float]] = {}
    for first, second in PAIRS:
        if first in points and second in points:
            pair = (images[points[first]].values, images[points[second]].values)
            found |= {f"{first}_{second}_{kind}": _changed(*pair, kinds) for kind, kinds in KINDS.items()}
    if TimePoint.EARLY in points and TimePoint.LATE in points:
        found |= _slopes(images[points[TimePoint.EARLY] : points[TimePoint.LATE] + 1])
    return {name: found[name] for name in SET_NAMES if name in found}


def lacking(set_name: str, positions: Sequence[float]) -> tuple[TimePoint, ...]:
    """The time points of a set that no image stands for yet."""
    points = time_points(positions)
    return tuple(point for point in needed(set_name) if point not in points)


def _is_near_zero(value: float, beside: float) -> bool:
    return abs(value) < NEAR_ZERO * abs(beside)


def _changed(
    first: Mapping[str, float], second: Mapping[str, float], kind: Callable[[float, float], float]
) -> dict[str, float]:
    return {name: kind(value, second[name]) for name, value in first.items() if name in second}


def _slopes(images: Sequence[CourseImage]) -> dict[str, dict[str, float]]:
    """Least squares against the position: the change that a whole course of that slope would make."""
    at = np.array([image.position for image in images])
    centred = at - at.mean()
    weights = centred / float(centred @ centred)
    names = [name for name in images[0].values if all(name in image.values for image in images)]
    slopes = {name: float(weights @ [image.values[name] for image in images]) for name in names}
    first = images[0].values
    in_parts = {name: relative(first[name], first[name] + slope) for name, slope in slopes.items()}
    return dict(zip(SLOPES, (slopes, in_parts), strict=True))
