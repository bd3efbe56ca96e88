"""Projections simulated of a CT: a rod shows where it stands, and a reconstruction puts it back there."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydicom import Dataset, dcmread
from scipy import ndimage

from models.fbp import reconstructed
from models.scan_geometry import FanBeam, ImageGrid, ScanGeometry
from models.scan_simulation import Exposure, hu_of
from node.roles import RoleRule, role_of
from pipelines.base import InputRejected
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.projection_scan import scan_fault
from pipelines.dicom.projection_views import Beam, DetectorShape
from pipelines.dicom.projections import Projections, read_projections
from pipelines.projection_phantom import RayKind, SimulatedScanner, simulated_projections, write_projections
from tests.pipelines.conftest import REPOSITORY, dciodvfy_errors
from tests.pipelines.made import SLICE_MM, ct_series, write

PIXELS, PIXEL_MM, SLICES = 40, 4.0, 3
LEFT_MM, POSTERIOR_MM = 48.0, -32.0
"""Of the rod, from the middle of the CT; it stands in the top slice alone."""
ORIGIN_LPS_MM = (-58.0, -178.0, -30.0)
MIDDLE_LPS_MM = tuple(np.add(ORIGIN_LPS_MM, [78.0, 78.0, SLICE_MM]).tolist())
TOP_Z_MM = ORIGIN_LPS_MM[2] + (SLICES - 1) * SLICE_MM
ROD_LPS_MM = (MIDDLE_LPS_MM[0] + LEFT_MM, MIDDLE_LPS_MM[1] + POSTERIOR_MM, TOP_Z_MM)
ROD_HU = 1000
VIEWS = 24
SILENT = Exposure(photons=np.inf)
KINDS = pytest.mark.parametrize("rays", list(RayKind))
POSITIONS = pytest.mark.parametrize("position", ["HFS", "FFS", "HFP", "FFP"])

IN_GANTRY = {"HFS": (1, 1, 1), "FFS": (-1, 1, -1), "HFP": (-1, -1, 1), "FFP": (1, -1, -1)}
"""Signs of the patient's left, posterior and head, along the gantry's right, down and into it (seen from the table)."""


def rod_hu() -> NDArray[np.int16]:
    """One rod of four pixels by four, in the slice nearest to the head; all else is air."""
    hu = np.full((SLICES, PIXELS, PIXELS), -1000, np.int16)
    row, column = (int(PIXELS / 2 + mm / PIXEL_MM) for mm in (POSTERIOR_MM, LEFT_MM))
    hu[-1, row - 2 : row + 2, column - 2 : column + 2] = ROD_HU
    return hu


def slices_with(hu: NDArray[np.int16], **changes: Any) -> list[Dataset]:
    series = ct_series(hu, PixelSpacing=[PIXEL_MM, PIXEL_MM], **changes)
    for index, one in enumerate(series):
        one.ImagePositionPatient = [ORIGIN_LPS_MM[0], ORIGIN_LPS_MM[1], ORIGIN_LPS_MM[2] + index * SLICE_MM]
    return series


def ct_of(folder: Path, hu: NDArray[np.int16] | None = None, **changes: Any) -> ImageSeries:
    return read_image_series(write(slices_with(rod_hu() if hu is None else hu, **changes), folder))


@pytest.fixture
def ct(tmp_path: Path) -> ImageSeries:
    return ct_of(tmp_path)


def scanner(rays: RayKind, **changes: Any) -> SimulatedScanner:
    return SimulatedScanner(rays, views=VIEWS, **{"exposure": SILENT, **changes})


def written_and_read(ct: ImageSeries, folder: Path, rays: RayKind, **changes: Any) -> Projections:
    return read_projections(write_projections(ct, scanner(rays, **changes), folder))


def column_of(view: NDArray[np.float32]) -> float:
    """Where the shadow is along a detector row, counted from 0."""
    return float(np.average(np.arange(len(view)), weights=view))


def shadow(projections: Projections, view: int) -> float:
    """Of the row with a shadow, from the central column, mm on the detector."""
    row = projections.line_integrals[view].sum(axis=1).argmax()
    found = column_of(projections.line_integrals[view, row])
    return (found - projections.geometry.central_column) * projections.geometry.column_mm


def expected_shadow(geometry: Any, angle: float, right_mm: float, down_mm: float) -> float:
    """From the definition of the angle: source at x = -r sin a, y = r cos a; column 0 is on the left at angle 0."""
    up_mm = -down_mm
    across = right_mm * np.cos(angle) + up_mm * np.sin(angle)
    if geometry.beam is Beam.PARALLEL:
        return float(across)
    towards_source = -right_mm * np.sin(angle) + up_mm * np.cos(angle)
    fan_rad = np.arctan2(across, geometry.source_isocenter_mm - towards_source)
    return float(fan_rad * geometry.source_detector_mm)


@KINDS
@POSITIONS
def test_the_rod_throws_its_shadow_where_it_lies_in_the_gantry(tmp_path: Path, rays: RayKind, position: str) -> None:
    found = written_and_read(ct_of(tmp_path, PatientPosition=position), tmp_path / "views", rays)
    right, down, _ = IN_GANTRY[position]
    lit = np.flatnonzero(found.line_integrals.max(axis=(1, 2)) > 0.1)
    assert len(lit) == VIEWS
    for view in map(int, lit):
        angle = found.geometry.angles_rad[view]
        expected = expected_shadow(found.geometry, angle, right * LEFT_MM, down * POSTERIOR_MM)
        assert shadow(found, view) == pytest.approx(expected, abs=0.25 * found.geometry.column_mm)


def test_head_first_supine_the_left_side_is_on_the_right_of_the_first_view(ct: ImageSeries) -> None:
    found = simulated_projections(ct, scanner(RayKind.PARALLEL))
    assert shadow(found, 0) == pytest.approx(LEFT_MM, abs=0.5)
    # A quarter turn counterclockwise the rays come from the patient's right, and anterior is on the right.
    assert found.geometry.angles_rad[VIEWS // 2] == pytest.approx(np.pi / 2)
    assert shadow(found, VIEWS // 2) == pytest.approx(-POSTERIOR_MM, abs=0.5)


def test_feet_first_the_shadow_is_mirrored(tmp_path: Path) -> None:
    found = simulated_projections(ct_of(tmp_path, PatientPosition="FFS"), scanner(RayKind.PARALLEL))
    assert shadow(found, 0) == pytest.approx(-LEFT_MM, abs=0.5)
    assert shadow(found, VIEWS // 2) == pytest.approx(-POSTERIOR_MM, abs=0.5)


@POSITIONS
def test_row_0_is_the_slice_farthest_into_the_gantry(tmp_path: Path, position: str) -> None:
    found = simulated_projections(ct_of(tmp_path, PatientPosition=position), scanner(RayKind.PARALLEL))
    assert found.line_integrals.shape[1] == SLICES
    rows = found.line_integrals.sum(axis=(0, 2))
    assert int(rows.argmax()) == (0 if position.startswith("HF") else SLICES - 1)
    assert (found.geometry.central_row, found.geometry.row_mm) == (1.0, SLICE_MM)


@POSITIONS
def test_a_fan_turns_once_for_each_slice_further_into_the_gantry(tmp_path: Path, position: str) -> None:
    found = written_and_read(ct_of(tmp_path, PatientPosition=position), tmp_path / "views", RayKind.FAN)
    geometry = found.geometry
    steps_rad = np.diff(geometry.angles_rad)
    assert steps_rad == pytest.approx(2 * np.pi / VIEWS, abs=1e-5)
    towards_head = 1 if position.startswith("HF") else -1
    slices_mm = sorted(towards_head * (ORIGIN_LPS_MM[2] + SLICE_MM * np.arange(SLICES)))
    assert geometry.axial_positions_mm == pytest.approx(np.repeat(slices_mm, VIEWS))
    lit = np.unique(geometry.axial_positions_mm[found.line_integrals.max(axis=(1, 2)) > 0.1])
    assert lit == pytest.approx(towards_head * TOP_Z_MM)


def test_the_fan_is_that_of_a_scanner_with_a_quarter_offset(ct: ImageSeries) -> None:
    geometry = simulated_projections(ct, scanner(RayKind.FAN)).geometry
    assert (geometry.beam, geometry.shape) == (Beam.DIVERGING, DetectorShape.CYLINDRICAL)
    assert (geometry.source_isocenter_mm, geometry.source_detector_mm) == (595.0, 1085.6)
    assert geometry.central_column % 1.0 == pytest.approx(0.75)
    assert geometry.column_mm == pytest.approx(PIXEL_MM * 1085.6 / 595.0)
    assert geometry.row_mm == pytest.approx(SLICE_MM * 1085.6 / 595.0)
    assert (geometry.views_per_rotation, geometry.is_helical) == (VIEWS, False)


def test_parallel_rays_go_half_around(ct: ImageSeries) -> None:
    geometry = simulated_projections(ct, scanner(RayKind.PARALLEL)).geometry
    assert (geometry.beam, geometry.shape) == (Beam.PARALLEL, DetectorShape.FLAT)
    assert geometry.angles_rad == pytest.approx(np.arange(VIEWS) * np.pi / VIEWS)
    assert geometry.views_per_rotation == 2 * VIEWS


@KINDS
def test_no_corner_of_the_image_is_cut_off(tmp_path: Path, rays: RayKind) -> None:
    hu = np.full((1, PIXELS, PIXELS), -1000, np.int16)
    hu[0, [0, 0, -1, -1], [0, -1, 0, -1]] = 1000
    found = simulated_projections(ct_of(tmp_path, hu), scanner(rays))
    assert found.line_integrals[..., 0].max() == found.line_integrals[..., -1].max() == 0.0
    assert np.count_nonzero(found.line_integrals.max(axis=(1, 2)) > 0.05) == VIEWS


@KINDS
@POSITIONS
def test_a_reconstruction_puts_the_rod_where_the_ct_has_it(tmp_path: Path, rays: RayKind, position: str) -> None:
    ct = ct_of(tmp_path, PatientPosition=position)
    found = read_projections(write_projections(ct, dataclasses.replace(scanner(rays), views=120), tmp_path / "views"))
    images = hu_of(images_in_gantry(found), found.water_attenuation_per_mm)
    rod = np.argwhere(images > ROD_HU / 2)
    assert place_lps_mm(found, position, images.shape, rod.mean(axis=0)) == pytest.approx(ROD_LPS_MM, abs=0.3)
    # Back in the order of the patient it is the CT itself, up to what the ramp makes of sharp edges.
    back = np.flip(images, tuple(axis for axis, sign in enumerate(IN_GANTRY[position][::-1]) if sign < 0))
    truth = ct.volume.array_zyx
    assert back[ndimage.binary_erosion(truth > 0, np.ones((1, 3, 3), np.bool_))] == pytest.approx(ROD_HU, abs=150.0)
    assert np.abs(back - truth).mean() < 20.0


def images_in_gantry(projections: Projections) -> NDArray[np.float32]:
    """Filtered backprojection, [slice, row, column] along the gantry's z, down and right."""
    geometry = projections.geometry
    diameter_mm = float(projections.header.ReconstructionDiameter)
    grid = ImageGrid(PIXELS, PIXELS, diameter_mm / PIXELS)
    views = len(geometry.angles_rad) if geometry.beam is Beam.PARALLEL else geometry.views_per_rotation
    fan = None
    if geometry.beam is Beam.DIVERGING:
        fan = FanBeam(geometry.source_isocenter_mm, geometry.source_detector_mm)
    sinograms = (
        projections.line_integrals.transpose(1, 0, 2)[::-1]
        if fan is None
        else projections.line_integrals.reshape(-1, views, projections.line_integrals.shape[2])
    )
    angles = tuple((-geometry.angles_rad[:views]).tolist())
    rays = ScanGeometry(grid, angles, sinograms.shape[2], geometry.column_mm, geometry.central_column, fan)
    return reconstructed(sinograms, rays)


def place_lps_mm(
    projections: Projections, position: str, shape: tuple[int, ...], index: NDArray[np.float64]
) -> tuple[float, ...]:
    """From the Data Collection Center and the signs of the patient position alone."""
    center = projections.geometry.collection_center_lps_mm
    assert center is not None
    offsets_mm = (index - (np.array(shape) - 1) / 2) * [SLICE_MM, PIXEL_MM, PIXEL_MM]
    right, down, into = IN_GANTRY[position]
    return (center[0] + right * offsets_mm[2], center[1] + down * offsets_mm[1], center[2] + into * offsets_mm[0])


@KINDS
def test_the_middle_of_the_chosen_slices_lies_at_the_isocenter(ct: ImageSeries, rays: RayKind) -> None:
    whole = simulated_projections(ct, scanner(rays)).geometry
    assert whole.collection_center_lps_mm == pytest.approx(MIDDLE_LPS_MM)
    top = simulated_projections(ct, scanner(rays, slices=(2, 3)))
    assert top.geometry.collection_center_lps_mm == pytest.approx((*MIDDLE_LPS_MM[:2], TOP_Z_MM))
    assert top.line_integrals.max() > 0.5
    assert simulated_projections(ct, scanner(rays, slices=(0, 2))).line_integrals.max() == 0.0


@KINDS
def test_what_is_written_settles_as_one_whole_scan_with_the_role_of_projections(
    ct: ImageSeries, tmp_path: Path, rays: RayKind
) -> None:
    paths = write_projections(ct, scanner(rays), tmp_path / "views")
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    assert {header.ImagesInAcquisition for header in headers} == {len(paths)}
    assert len(paths) == (VIEWS if rays is RayKind.PARALLEL else VIEWS * SLICES)
    assert scan_fault(headers[::-1]) is None
    late = scan_fault(headers[:-1])
    assert late is not None and late.curable
    rules = TypeAdapter(tuple[RoleRule, ...]).validate_python(
        yaml.safe_load((REPOSITORY / "config" / "roles.yaml").read_text(encoding="utf-8"))
    )
    assert {role_of(header, rules) for header in headers} == {"projections"}


@KINDS
def test_values_come_back_to_a_step_of_the_16_bits(ct: ImageSeries, tmp_path: Path, rays: RayKind) -> None:
    noisy = {"exposure": Exposure(photons=2e4, water_per_mm=0.02)}
    expected = simulated_projections(ct, scanner(rays, **noisy))
    found = written_and_read(ct, tmp_path / "views", rays, **noisy)
    step = float(np.ptp(expected.line_integrals)) / 65535
    assert np.abs(found.line_integrals - expected.line_integrals).max() <= 0.51 * step
    assert found.photons is not None and (found.photons == 2e4).all()
    assert (found.water_attenuation_per_mm, found.missing_views) == (0.02, 0)
    for field in dataclasses.fields(found.geometry):
        one, other = getattr(found.geometry, field.name), getattr(expected.geometry, field.name)
        assert one == (pytest.approx(other, rel=1e-6) if isinstance(one, float | np.ndarray) else other), field.name


@KINDS
def test_infinitely_many_photons_are_not_stated(ct: ImageSeries, rays: RayKind) -> None:
    assert simulated_projections(ct, scanner(rays)).photons is None


def test_who_was_scanned_is_said_and_not_by_whom_the_ct_was(ct: ImageSeries, tmp_path: Path) -> None:
    found = written_and_read(ct, tmp_path / "views", RayKind.FAN).header
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition", "KVP"):
        assert found[keyword].value == ct.header[keyword].value, keyword
    assert found.SeriesInstanceUID != ct.series_instance_uid
    assert (found.Manufacturer, found.ReconstructionDiameter) == ("rtnode phantom", PIXELS * PIXEL_MM)
    assert found.SeriesDescription == "Simulated projections, fan beam, 24 views"


def test_the_field_of_view_of_an_oblong_image_is_its_longer_side(tmp_path: Path) -> None:
    ct = ct_of(tmp_path, rod_hu()[:, :30])
    found = simulated_projections(ct, scanner(RayKind.FAN))
    assert found.header.ReconstructionDiameter == PIXELS * PIXEL_MM


@KINDS
def test_the_same_arguments_make_the_same_files_and_others_other_series(
    ct: ImageSeries, tmp_path: Path, rays: RayKind
) -> None:
    noise = {"exposure": Exposure()}
    once, again = (
        [path.read_bytes() for path in write_projections(ct, scanner(rays, **noise), tmp_path / str(number))]
        for number in range(2)
    )
    assert once == again
    other = written_and_read(ct, tmp_path / "other", rays, **noise, seed=1)
    assert other.header.SeriesInstanceUID.encode() not in once[0]
    assert not set(other.sop_instance_uids) & {path.stem for path in (tmp_path / "0").iterdir()}


@KINDS
def test_many_slices_are_measured_in_batches_that_change_nothing(
    ct: ImageSeries, rays: RayKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = simulated_projections(ct, scanner(rays, exposure=Exposure()))
    told: list[float] = []
    monkeypatch.setattr("pipelines.projection_phantom._PIXELS_AT_ONCE", PIXELS**2)
    parts = simulated_projections(ct, scanner(rays, exposure=Exposure()), lambda done, what: told.append(done))
    assert told == pytest.approx([1 / 3, 2 / 3, 1])
    np.testing.assert_array_equal(parts.line_integrals, whole.line_integrals)


def test_what_the_scanner_filled_in_is_air(tmp_path: Path) -> None:
    hu = rod_hu()
    hu[:, :4] = -3000
    filled = simulated_projections(ct_of(tmp_path, hu, PixelPaddingValue=-3000), scanner(RayKind.PARALLEL))
    (tmp_path / "plain").mkdir()
    plain = simulated_projections(ct_of(tmp_path / "plain"), scanner(RayKind.PARALLEL))
    np.testing.assert_array_equal(filled.line_integrals, plain.line_integrals)


@pytest.mark.parametrize("orientation", [[-1, 0, 0, 0, -1, 0], [1, 0, 0, 0, -1, 0]])
def test_the_order_in_which_the_ct_is_stored_changes_nothing(
    ct: ImageSeries, tmp_path: Path, orientation: list[int]
) -> None:
    columns, rows = orientation[0], orientation[4]
    far_mm = (PIXELS - 1) * PIXEL_MM
    series = slices_with(np.ascontiguousarray(rod_hu()[:, ::rows, ::columns]), ImageOrientationPatient=orientation)
    for one in series:
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x + far_mm * (columns < 0), y + far_mm * (rows < 0), z]
    (tmp_path / "turned").mkdir()
    turned = read_image_series(write(series, tmp_path / "turned"))
    found, expected = (simulated_projections(one, scanner(RayKind.FAN)) for one in (turned, ct))
    np.testing.assert_array_equal(found.line_integrals, expected.line_integrals)
    assert found.geometry.collection_center_lps_mm == pytest.approx(expected.geometry.collection_center_lps_mm)


TURNED = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]
CORONAL = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]
OBLIQUE = [0.999, 0.0447, 0.0, -0.0447, 0.999, 0.0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PatientPosition": "HFDR"}, "Patient Position is HFDR, and not one of HFS, FFS, HFP, FFP"),
        ({"PatientPosition": None}, "Patient Position is absent, and not one of HFS, FFS, HFP, FFP"),
        ({"PixelSpacing": [4.0, 3.0]}, "The pixels of 4 x 3 mm are not square"),
        ({"ImageOrientationPatient": TURNED}, "The slices are not axial with rows from side to side"),
        ({"ImageOrientationPatient": OBLIQUE}, "The slices are not axial with rows from side to side"),
        ({"PixelSpacing": [22.0, 22.0]}, "The CT reaches 622 mm from its middle, and the source is at 595 mm"),
    ],
)
def test_what_can_not_be_scanned_is_refused_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    series = slices_with(rod_hu())
    for one in series:
        for keyword, value in changes.items():
            setattr(one, keyword, value)
    with pytest.raises(InputRejected) as caught:
        simulated_projections(read_image_series(write(series, tmp_path)), scanner(RayKind.FAN))
    assert str(caught.value) == sentence


def test_coronal_slices_are_refused(tmp_path: Path) -> None:
    coronal = slices_with(rod_hu()[:1], ImageOrientationPatient=CORONAL)
    with pytest.raises(InputRejected, match="The slices are not axial"):
        simulated_projections(read_image_series(write(coronal, tmp_path)), scanner(RayKind.FAN))


@pytest.mark.parametrize("slices", [(2, 4), (1, 1), (2, 1), (-1, 2)])
def test_slices_that_the_ct_lacks_are_refused(ct: ImageSeries, slices: tuple[int, int]) -> None:
    first, stop = slices
    with pytest.raises(InputRejected, match=f"Slices {first}:{stop} are no part of the 3 slices of the CT, 0:3"):
        simulated_projections(ct, scanner(RayKind.FAN, slices=slices))


@KINDS
def test_written_views_are_valid_ct_images(ct: ImageSeries, tmp_path: Path, rays: RayKind) -> None:
    paths = write_projections(ct, scanner(rays, exposure=Exposure()), tmp_path / "views")
    assert [error for path in (paths[0], paths[-1]) for error in dciodvfy_errors(path)] == []
