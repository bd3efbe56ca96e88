"""Changes that can be computed by hand."""

import math

import pytest

from models.delta_features import (
    SET_NAMES,
    CourseImage,
    TimePoint,
    absolute_relative,
    course_position,
    delta_sets,
    lacking,
    log_ratio,
    needed,
    relative,
    time_points,
)

EARLY, MIDDLE, LATE = TimePoint


def positions(*numbers: int, planned: int = 5) -> list[float]:
    return [course_position(number, planned) for number in numbers]


def course(*values: float) -> list[CourseImage]:
    return [
        CourseImage(at, {"hu": value})
        for at, value in zip(positions(1, 2, 3, 4, 5)[: len(values)], values, strict=True)
    ]


def test_there_are_seventeen_sets_and_the_published_one_is_among_them() -> None:
    assert len(set(SET_NAMES)) == 17 and "early_middle_absolute_relative" in SET_NAMES


def test_every_kind_of_change_of_a_known_course() -> None:
    found = {name: values["hu"] for name, values in delta_sets(course(40.0, 30.0, 20.0, 20.0, 10.0)).items()}
    assert tuple(found) == SET_NAMES
    assert found["early_middle_difference"] == -20.0
    assert found["early_middle_absolute"] == 20.0
    assert found["early_middle_relative"] == -0.5
    assert found["early_middle_absolute_relative"] == 0.5
    assert found["early_middle_log_ratio"] == pytest.approx(-math.log(2.0))
    assert found["middle_late_difference"] == -10.0
    assert found["early_late_relative"] == -0.75
    assert found["slope_to_late"] == pytest.approx(-28.0)  # least squares by hand: -7 in each quarter of the course
    assert found["relative_slope_to_late"] == pytest.approx(-0.7)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((1, 2, 3, 4, 5), {EARLY: 0, MIDDLE: 2, LATE: 4}),
        ((2, 4, 5), {EARLY: 0, MIDDLE: 1, LATE: 2}),
        ((1, 2, 3, 4), {EARLY: 0, MIDDLE: 2, LATE: 3}),
        ((1, 2, 4), {EARLY: 0, MIDDLE: 2}),
        ((1, 2), {EARLY: 0}),
        ((5,), {LATE: 0}),
        ((), {}),
    ],
)
def test_neighbours_stand_in_for_missing_fractions(numbers: tuple[int, ...], expected: dict[TimePoint, int]) -> None:
    assert time_points(positions(*numbers)) == expected


def test_of_weekly_images_of_25_fractions_the_first_the_middle_and_the_last_count() -> None:
    assert time_points(positions(1, 6, 11, 16, 21, planned=25)) == {EARLY: 0, MIDDLE: 2, LATE: 4}


def test_before_the_middle_of_the_course_there_is_no_set() -> None:
    assert delta_sets(course(40.0, 30.0)) == {}
    assert lacking("early_middle_relative", positions(1, 2)) == (MIDDLE,)


def test_at_the_middle_there_are_the_sets_of_early_and_middle() -> None:
    assert all(needed(name) == (EARLY, MIDDLE) for name in delta_sets(course(1.0, 2.0, 3.0)))
    assert len(delta_sets(course(1.0, 2.0, 3.0))) == 5


def test_a_ratio_to_a_value_near_zero_is_not_defined() -> None:
    assert math.isnan(relative(0.001, 20.0)) and math.isnan(absolute_relative(0.0, 20.0))
    assert relative(0.0, 0.0) == 0.0 and relative(-10.0, -5.0) == -0.5


def test_a_log_ratio_across_zero_is_not_defined() -> None:
    assert math.isnan(log_ratio(-10.0, 10.0)) and math.isnan(log_ratio(10.0, 0.0))
    assert log_ratio(-10.0, -20.0) == pytest.approx(math.log(2.0))


def test_a_feature_that_one_image_lacks_is_in_no_set() -> None:
    images = [CourseImage(0.0, {"hu": 1.0, "sd": 2.0}), CourseImage(0.5, {"hu": 1.0})]
    assert all(set(values) == {"hu"} for values in delta_sets(images).values())


def test_images_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="not in the order"):
        delta_sets([CourseImage(0.5, {}), CourseImage(0.0, {})])


def test_a_fraction_beyond_the_plan_is_the_end_of_the_course() -> None:
    assert course_position(6, 5) == 1.0
    with pytest.raises(ValueError, match="counted from 1"):
        course_position(0, 5)
