"""Features of a tumour whose density is known on every day."""

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.base import InputRejected
from pipelines.course_features import CourseExtraction, CourseReader
from tests.pipelines.courses_made import EXTRACTION, FIRST_DAY, course, image, regions, tumour

READER = CourseReader(EXTRACTION)


def test_a_tumour_made_half_as_dense_changes_by_half(tmp_path: Path) -> None:
    found = READER.read(course(tmp_path, 40.0, 30.0, 20.0))
    changes = {name: values["stat_mean@original"] for name, values in found.sets.items()}
    assert changes["early_middle_difference"] == pytest.approx(-20.0)
    assert changes["early_middle_absolute_relative"] == pytest.approx(0.5)
    assert changes["early_middle_log_ratio"] == pytest.approx(-math.log(2.0))
    assert found.sets["early_middle_difference"]["stat_var@original"] == pytest.approx(0.0, abs=1e-9)
    assert found.remarks == ()


def test_images_out_of_order_make_the_same_features(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0, 30.0, 20.0, 10.0, 5.0)
    turned = replace(sources, cbct=[paths[::-1] for paths in sources.cbct[::-1]])
    assert READER.read(turned).sets == READER.read(sources).sets


def test_what_speaks_against_the_features_is_measured(tmp_path: Path) -> None:
    measures = READER.read(course(tmp_path, 40.0, 30.0)).measures
    assert measures["registration_doubt"] == pytest.approx(0.0, abs=0.01)
    assert measures["gtv_outside"] == 0.0 and measures["fractions_missing"] == 0.0
    assert measures["feature_spread"] > 0.1  # a voxel more is water


def test_a_patient_who_lies_elsewhere_is_seen_in_the_doubt(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    moved = image(tmp_path, "moved", FIRST_DAY, 40.0, origin_mm=12.0)
    assert READER.read(replace(sources, cbct=[moved])).measures["registration_doubt"] > 0.05


def test_early_in_the_course_there_are_features_and_no_set(tmp_path: Path) -> None:
    found = READER.read(course(tmp_path, 40.0, 30.0))
    assert found.sets == {}
    assert [one.features["stat_mean@original"].value for one in found.fractions] == pytest.approx([40.0, 30.0])


def test_the_name_of_the_site_stands_for_the_gtv(tmp_path: Path) -> None:
    reader = CourseReader(EXTRACTION, {"tumour 1": "GTVp"})
    assert reader.read(course(tmp_path, 40.0, roi="Tumour 1")).region.name == "GTVp"


def test_a_tumour_of_three_voxels_is_refused(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    small = tumour((slice(5, 6), slice(14, 15), slice(14, 17)))
    with pytest.raises(InputRejected, match="voxel"):
        READER.read(replace(sources, structure_sets=[regions(tmp_path / "small", sources.planning_ct[0], GTVp=small)]))


def test_a_gtv_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="The structure set has no region GTVp or GTV"):
        READER.read(course(tmp_path, 40.0, roi="CTVp"))


def test_a_gtv_outside_of_the_planning_ct_is_refused(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    far = image(tmp_path, "elsewhere", FIRST_DAY - timedelta(days=14), 40.0, origin_mm=500.0)
    outside = regions(tmp_path / "far", far, GTVp=tumour())
    with pytest.raises(InputRejected, match="The region GTVp has no contour on the images"):
        READER.read(replace(sources, structure_sets=[outside]))


def test_a_gtv_outside_of_an_image_is_refused(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    far = image(tmp_path, "far", FIRST_DAY, 40.0, origin_mm=500.0)
    with pytest.raises(InputRejected, match=r"GTVp lies outside of the field of view of fraction 1, 2025-01-20"):
        READER.read(replace(sources, cbct=[far]))


def test_an_earlier_fraction_that_can_not_be_used_is_left_out_and_said(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0, 30.0)
    far = image(tmp_path, "far", FIRST_DAY - timedelta(days=7), 40.0, origin_mm=500.0)
    found = READER.read(replace(sources, cbct=[far, *sources.cbct]))
    assert [one.features["stat_mean@original"].value for one in found.fractions] == pytest.approx([40.0, 30.0])
    assert "Fraction 1, 2025-01-13 is left out: GTVp lies outside of the field of view" in found.remarks[0]


def test_two_planning_cts_are_refused(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    with pytest.raises(InputRejected, match="There are 2 planning CTs, and which one counts is not known"):
        READER.read(replace(sources, planning_ct=[*sources.planning_ct, sources.planning_ct[0]]))


def test_fractions_of_two_patients_are_refused(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    other = image(tmp_path, "other", FIRST_DAY + timedelta(days=7), 40.0, patient_id="MADE-2")
    with pytest.raises(InputRejected, match="not of one patient"):
        READER.read(replace(sources, cbct=[*sources.cbct, other]))


def test_a_planning_ct_of_another_patient_is_refused(tmp_path: Path) -> None:
    sources = course(tmp_path, 40.0)
    others = [image(tmp_path, "other", FIRST_DAY, 40.0, patient_id="MADE-2")]
    with pytest.raises(InputRejected, match="not of one patient"):
        READER.read(replace(sources, cbct=others))


def test_settings_of_several_aggregations_are_refused() -> None:
    both = {"original": {"aggregations": ["3D, merged", "3D, averaged"]}}
    with pytest.raises(ValueError, match="each with a single aggregation"):
        CourseExtraction.model_validate({"features": both})
