"""Projections (DICOM-CT-PD): read, refused, written, validated, read back."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipelines.base import InputRejected, PipelineError
from pipelines.dicom.projection_views import Beam, DetectorShape
from pipelines.dicom.projection_writing import NewSeries, projection_instances
from pipelines.dicom.projections import Projections, read_projections
from pipelines.dicom.writing import file_bytes
from tests.dicom_files import encoded
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import changed, unchecked, write
from tests.pipelines.projections_made import (
    ANGLE,
    AXIAL,
    COLUMNS,
    RADIAL_DISTANCE,
    ROWS,
    SLOPE,
    Elements,
    as_unknown,
    helical,
    projection_series,
    stored,
    with_private,
)

Series = list[Dataset]
NEW = NewSeries("1.2.3.1", 4, "Projections")
SHIFTS = {0x7033100B: ("FL", 0.001), 0x7033100C: ("FL", 0.25), 0x7033100D: ("FL", -0.5), 0x7033100E: ("CS", "FFSXYZ")}


def read(series: Series, folder: Path) -> Projections:
    return read_projections(write(series, folder))


def test_a_scan_is_read_by_instance_number(tmp_path: Path) -> None:
    found = read(projection_series(12, KVP=120), tmp_path)
    assert found.line_integrals.dtype == np.float32
    assert found.line_integrals == pytest.approx(np.stack([stored(index) for index in range(12)]) * SLOPE)
    assert found.geometry.angles_rad == pytest.approx(np.arange(12) * np.pi / 6)
    assert (found.header.PatientID, found.header.KVP, found.missing_views) == ("RAMP-1", 120, 0)
    assert found.sop_instance_uids == tuple(one.SOPInstanceUID for one in projection_series(12))


def test_the_geometry_is_what_the_private_elements_say(tmp_path: Path) -> None:
    geometry = read(projection_series(12, SHIFTS), tmp_path).geometry
    assert (geometry.beam, geometry.shape) == (Beam.DIVERGING, DetectorShape.CYLINDRICAL)
    assert (geometry.source_isocenter_mm, geometry.source_detector_mm) == (595.0, 1085.5)
    assert (geometry.column_mm, geometry.row_mm) == (1.25, 1.0)
    assert (geometry.central_column, geometry.central_row) == (2.125, 0.5)
    assert geometry.axial_positions_mm == pytest.approx(12.5)
    assert geometry.angular_shifts_rad == pytest.approx(0.001)
    assert (set(geometry.axial_shifts_mm), set(geometry.radial_shifts_mm)) == ({0.25}, {-0.5})
    assert (geometry.views_per_rotation, geometry.is_helical) == (12, False)


def test_photons_are_read_for_each_column(tmp_path: Path) -> None:
    photons = [1e5, 2e5, 3e5, 2e5, 1e5]
    found = read(projection_series(12, {0x70331065: ("FL", photons)}), tmp_path)
    assert found.photons is not None
    assert found.photons.shape == (12, COLUMNS)
    assert found.photons[3] == pytest.approx(photons)
    assert read(projection_series(12), tmp_path).photons is None


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_way_that_a_series_was_sent_changes_nothing(tmp_path: Path, syntax: Any) -> None:
    expected = read(projection_series(12, SHIFTS), tmp_path)
    paths = [tmp_path / f"sent{index}.dcm" for index in range(12)]
    for path, one in zip(paths, projection_series(12, SHIFTS), strict=True):
        path.write_bytes(encoded(one, syntax))
    assert_equal(read_projections(paths), expected)


def test_private_elements_of_unknown_vr_are_read_as_the_manual_says(tmp_path: Path) -> None:
    photons = {0x70331065: ("FL", [1.0, 2.0, 3.0, 4.0, 5.0])}
    expected = read(projection_series(12, SHIFTS | photons), tmp_path)
    paths = write(as_unknown(projection_series(12, SHIFTS | photons)), tmp_path)
    assert dcmread(paths[0])[ANGLE].VR == "UN"
    assert_equal(read_projections(paths), expected)


def test_a_pixel_matrix_that_is_not_transposed_means_the_same(tmp_path: Path) -> None:
    upright = [
        changed(one, Rows=ROWS, Columns=COLUMNS, PixelData=stored(index).tobytes())
        for index, one in enumerate(projection_series(12))
    ]
    assert_equal(read(upright, tmp_path), read(projection_series(12), tmp_path))


def test_a_helical_scan_comes_again_to_the_same_angle_further_on(tmp_path: Path) -> None:
    found = read(helical(30, 10, feed_mm=7.0), tmp_path)
    assert found.geometry.is_helical
    assert found.geometry.axial_positions_mm[-1] == pytest.approx(2.9 * 7.0)
    assert found.missing_views == 0


def test_angles_may_wrap_and_run_backwards(tmp_path: Path) -> None:
    series = projection_series(12)
    for index, one in enumerate(series):
        with_private(one, {ANGLE: ("FL", float(np.mod(1 - index * np.pi / 6, 2 * np.pi)))})
    assert read(series, tmp_path).missing_views == 0


def every(elements: Elements | None = None, **changes: Any) -> Callable[[], Series]:
    return lambda: projection_series(12, elements, **changes)


def one(elements: Elements | None = None, **changes: Any) -> Callable[[], Series]:
    def make() -> Series:
        series = projection_series(12)
        with_private(changed(series[3], **changes), elements or {})
        return series

    return make


def without(tag: int) -> Callable[[], Series]:
    return one({tag: ("FL", None)})


def with_angles(*angles: float) -> Callable[[], Series]:
    """The first angles of a scan in twelve steps, in steps."""

    def make() -> Series:
        series = projection_series(12)
        for dataset, angle in zip(series, angles, strict=False):
            with_private(dataset, {ANGLE: ("FL", angle * np.pi / 6)})
        return series

    return make


GEOMETRY_ABSENT = [
    (0x70311001, "Detector Focal Center Angular Position (7031,1001)"),
    (0x70311002, "Detector Focal Center Axial Position (7031,1002)"),
    (0x70311003, "Detector Focal Center Radial Distance (7031,1003)"),
    (0x70311031, "Constant Radial Distance (7031,1031)"),
    (0x70311033, "Detector Central Element (7031,1033)"),
    (0x70291002, "Detector Element Transverse Spacing (7029,1002)"),
    (0x70291006, "Detector Element Axial Spacing (7029,1006)"),
    (0x70291010, "Number of Detector Rows (7029,1010)"),
    (0x70291011, "Number of Detector Columns (7029,1011)"),
    (0x70411001, "Water Attenuation Coefficient (7041,1001)"),
]


@pytest.mark.parametrize(("tag", "name"), GEOMETRY_ABSENT)
def test_a_view_without_its_geometry_is_refused(tmp_path: Path, tag: int, name: str) -> None:
    for series in (without(tag)(), one({tag: ("FL", float("nan"))})(), one({tag: ("LO", "none")})()):
        with pytest.raises(InputRejected) as caught:
            read(series, tmp_path)
        assert str(caught.value) == f"A view has no usable {name}"


def wrong_columns() -> Series:
    series = projection_series(12)
    with_private(changed(series[3], Rows=4, PixelData=stored(3)[:, :4].T.tobytes()), {0x70291011: ("US", 4)})
    return series


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (list, "The series has no projection"),
        (lambda: projection_series(1), "The series has only one view"),
        (one(SOPClassUID="1.2.3"), "A file is not a CT image"),
        (every({0x70391009: ("CS", "NO")}), "The projections are intensities, not line integrals (Log Flag is NO)"),
        (one(PatientID="OTHER"), "The series has images of 2 patients"),
        (one(SeriesInstanceUID="1.2.3"), "The series has images of 2 series"),
        (one(FrameOfReferenceUID="1.2.3"), "The series has images of 2 Frames of Reference"),
        (one(PatientPosition="HFP"), "The series has views of 2 patient positions"),
        (one({0x70331063: ("US", 2)}), "The series has views of 2 spectra"),
        (one(InstanceNumber=None), "A view has no usable Instance Number"),
        (one(InstanceNumber=1), "1 of 12 views have the Instance Number of another view"),
        (wrong_columns, "The series has views of 2 detector sizes"),
        (one(Rows=4), "The pixel matrix of a view is not that of the detector that its header describes"),
        (one({0x70291002: ("FL", 1.3)}), "The series has views of more than one geometry"),
        (one({RADIAL_DISTANCE: ("FL", 596.0)}), "The series has views of more than one geometry"),
        (one({0x7029100B: ("CS", "FLAT")}), "The series has views of more than one geometry"),
        (one({0x7029100B: ("CS", "SPHERICAL")}), "Detector Shape is neither CYLINDRICAL nor FLAT"),
        (one({0x7037100A: ("CS", "PENCILBEAM")}), "Type of Projection Geometry is neither FANBEAM nor PARALLELBEAM"),
        (every({0x7037100A: ("CS", "PARALLELBEAM")}), "Parallel beams have no detector that is not flat"),
        (every({0x70311031: ("FL", 500.0)}), "The detector of a view lies before the isocenter"),
        (every({0x70311031: ("FL", -1085.0)}), "A view has no usable Constant Radial Distance (7031,1031)"),
        (every({0x7033100E: ("CS", "FFSZ")}), "A view has no usable Source Angular Position Shift (7033,100B)"),
        (with_angles(0, 1, 2, 2), "1 of 12 views were taken from the place of another view"),
        (with_angles(0, 1, 3, 2), "The angles of the views do not run in one direction"),
        (lambda: projection_series(12)[:11], "1 of 12 views are missing, more than 5%"),
        (lambda: projection_series(40)[:5] + projection_series(40)[8:], "3 of 40 views are missing, more than 5%"),
        (every({0x70411001: ("DS", "0.193")}), "The Water Attenuation Coefficient is not that of water in 1/mm"),
        (every({0x70331065: ("FL", [1.0, 2.0])}), "Photon Statistics do not have a value for each detector column"),
        (every({0x70331065: ("FL", [1.0, 2.0, -1.0, 1.0, 1.0])}), "Photon Statistics hold a value that is no count"),
        (one(RescaleIntercept=-1.5), "A view has negative counts: line integrals that no noise explains"),
        (one(RescaleSlope=1), "A view has values that are too large for line integrals"),
        (one(RescaleSlope=None), "A view has no usable Rescale Slope and Intercept"),
        (one(NumberOfFrames=2, PixelData=bytes(40)), "A view has more than one frame"),
        (one(PixelData=bytes(12)), "The pixel data have 12 bytes where the header announces 20"),
    ],
)  # fmt: skip
def test_what_is_no_whole_scan_is_refused(tmp_path: Path, make: Callable[[], Series], sentence: str) -> None:
    with pytest.raises(InputRejected) as caught:
        read(make(), tmp_path)
    assert str(caught.value).startswith(sentence)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    series = projection_series(12)
    unchecked(series[3], RescaleIntercept="nan")
    with pytest.raises(InputRejected, match="A view has no usable Rescale Slope and Intercept"):
        read(series, tmp_path)
    unchecked(series[3], RescaleIntercept="0", RescaleSlope="1e308")
    with pytest.raises(InputRejected, match="A view has values that are too large for line integrals"):
        read(series, tmp_path)


def test_up_to_five_percent_of_missing_views_are_reported(tmp_path: Path) -> None:
    series = projection_series(40)
    found = read(series[:7] + series[8:20] + series[21:], tmp_path)
    assert (len(found.line_integrals), found.missing_views) == (38, 2)


def test_the_number_that_the_header_announces_counts_before_the_angles(tmp_path: Path) -> None:
    arc = [changed(one, ImagesInAcquisition=24) for one in projection_series(40)[:24]]
    assert read(arc, tmp_path).missing_views == 0
    (tmp_path / "missing").mkdir()
    assert read(arc[:23], tmp_path / "missing").missing_views == 1
    with pytest.raises(InputRejected, match="2 of 24 views are missing"):
        (tmp_path / "more").mkdir()
        read(arc[:22], tmp_path / "more")


def test_views_that_were_thinned_out_evenly_are_whole(tmp_path: Path) -> None:
    found = read(projection_series(120)[::10], tmp_path)
    assert (len(found.line_integrals), found.missing_views, found.geometry.views_per_rotation) == (12, 0, 120)


def parallel(views: int = 9, share: float = 0.5) -> Series:
    flat = {0x7037100A: ("CS", "PARALLELBEAM"), 0x7029100B: ("CS", "FLAT"), RADIAL_DISTANCE: ("FL", None)}
    series = projection_series(views, {**flat, 0x70311031: ("FL", None)})
    for index, one in enumerate(series):
        with_private(one, {ANGLE: ("FL", share * 2 * np.pi * index / views)})
    return series


def test_parallel_beams_are_marked_and_go_half_around(tmp_path: Path) -> None:
    found = read(parallel(), tmp_path)
    assert (found.geometry.beam, found.geometry.source_isocenter_mm) == (Beam.PARALLEL, np.inf)
    assert found.missing_views == 0
    with pytest.raises(InputRejected, match="9 of 18 views are missing"):
        read(parallel(share=0.25), tmp_path)


def assert_equal(found: Projections, expected: Projections, tolerance: float = 0.0) -> None:
    """Everything but the UIDs of the instances."""
    assert found.line_integrals.shape == expected.line_integrals.shape
    assert np.abs(found.line_integrals - expected.line_integrals).max() <= tolerance
    for field in dataclasses.fields(found.geometry):
        one, other = getattr(found.geometry, field.name), getattr(expected.geometry, field.name)
        assert np.array_equal(one, other), field.name
    assert (found.photons is None) == (expected.photons is None)
    assert found.photons is None or found.photons == pytest.approx(expected.photons)
    assert (found.header.PatientName, found.missing_views) == (expected.header.PatientName, expected.missing_views)
    assert found.header.FrameOfReferenceUID == expected.header.FrameOfReferenceUID
    assert found.water_attenuation_per_mm == expected.water_attenuation_per_mm


def written(projections: Projections, folder: Path, syntax: Any = None) -> list[Path]:
    folder.mkdir()
    instances = projection_instances(projections, NEW)
    paths = [folder / f"{index}.dcm" for index in range(len(instances))]
    for path, instance in zip(paths, instances, strict=True):
        path.write_bytes(encoded(instance, syntax) if syntax else file_bytes(instance))
    return paths


def noisy(projections: Projections) -> Projections:
    """As a phantom would hand it over: noise below zero, photons, a place in the patient."""
    noise = np.random.default_rng(0).normal(0.0, 0.1, projections.line_integrals.shape)
    return dataclasses.replace(
        projections,
        line_integrals=(projections.line_integrals + noise - 0.1).astype(np.float32),
        photons=np.full((len(noise), COLUMNS), 12345.0, np.float32),
        geometry=dataclasses.replace(projections.geometry, collection_center_lps_mm=(1.5, -200.25, 30.0)),
    )


def kinds() -> dict[str, Series]:
    scan = projection_series(40, SHIFTS)
    return {
        "axial": projection_series(12),
        "flying": scan[:9] + scan[10:],
        "helical": helical(30, 10, feed_mm=7.0),
        "flat": projection_series(12, {0x7029100B: ("CS", "FLAT")}),
        "parallel": parallel(),
    }


@pytest.mark.parametrize("kind", list(kinds()))
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_what_is_written_is_read_back(tmp_path: Path, kind: str, syntax: Any) -> None:
    (tmp_path / "made").mkdir()
    expected = noisy(read(kinds()[kind], tmp_path / "made"))
    paths = written(expected, tmp_path / "written", syntax)
    found = read_projections(paths[::-1])
    half_a_step = float(np.ptp(expected.line_integrals)) / 65535 / 2
    assert_equal(found, expected, tolerance=1.01 * half_a_step)
    again = read_projections(written(found, tmp_path / "again"))
    assert_equal(again, found, tolerance=1e-6)


@pytest.mark.parametrize("kind", list(kinds()))
def test_written_views_are_valid_ct_images(tmp_path: Path, kind: str) -> None:
    (tmp_path / "made").mkdir()
    paths = written(noisy(read(kinds()[kind], tmp_path / "made")), tmp_path / "written")
    assert dciodvfy_errors(paths[0]) == []
    assert dciodvfy_errors(paths[-1]) == []


def test_written_elements_are_those_of_the_manual(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    path = written(read(projection_series(12), tmp_path / "made"), tmp_path / "written")[3]
    view = dcmread(path)
    assert (view.Rows, view.Columns, view.InstanceNumber, view.ImagesInAcquisition) == (COLUMNS, ROWS, 4, 12)
    assert (view[ANGLE].VR, view[ANGLE].value) == ("FL", pytest.approx(np.pi / 2))
    assert list(view[0x70311033].value) == [3.125, 1.5]
    assert view[0x70310010].VR == "LO"
    assert view.SeriesInstanceUID == NEW.series_instance_uid
    assert view.StudyInstanceUID == projection_series(1)[0].StudyInstanceUID
    assert view.ImagePositionPatient == [0, 0, 12.5]


def test_parallel_views_are_written_without_the_distances_of_a_fan(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    view = dcmread(written(read(parallel(), tmp_path / "made"), tmp_path / "written")[0])
    assert view[0x7037100A].value == "PARALLELBEAM"
    assert (RADIAL_DISTANCE in view, 0x70311031 in view) == (False, False)


def test_the_isocenter_follows_the_table_through_the_frame_of_reference(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    paths = written(noisy(read(helical(21, 10, feed_mm=7.0), tmp_path / "made")), tmp_path / "written")
    positions = [dcmread(path).ImagePositionPatient for path in (paths[0], paths[10], paths[20])]
    assert positions == [[1.5, -200.25, 23.0], [1.5, -200.25, 30.0], [1.5, -200.25, 37.0]]
    assert with_private(Dataset(), {AXIAL: ("FL", 7.0)})[AXIAL].value == dcmread(paths[10])[AXIAL].value


def test_feet_first_the_table_moves_the_patient_towards_the_feet(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    series = [changed(one, PatientPosition="FFS") for one in helical(21, 10, feed_mm=7.0)]
    paths = written(noisy(read(series, tmp_path / "made")), tmp_path / "written")
    assert [dcmread(path).ImagePositionPatient[2] for path in (paths[0], paths[10], paths[20])] == [37.0, 30.0, 23.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.5, 31.0])
def test_what_is_no_line_integral_is_not_written(tmp_path: Path, value: float) -> None:
    found = read(projection_series(12), tmp_path)
    found.line_integrals[3, 1, 2] = value
    with pytest.raises(PipelineError, match="no line integrals"):
        projection_instances(found, NEW)
