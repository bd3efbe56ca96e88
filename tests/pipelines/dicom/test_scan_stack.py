"""Projections as slices: where they lie in the patient, and what is no stack of slices."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from models.fbp import reconstructed
from models.scan_simulation import hu_of
from pipelines.base import InputRejected
from pipelines.dicom.projections import Projections, read_projections
from pipelines.dicom.scan_stack import ScanStack, scan_stack
from pipelines.projection_phantom import RayKind, simulated_projections, write_projections
from tests.pipelines.made import SLICE_MM, changed, write
from tests.pipelines.projections_made import helical, with_private
from tests.pipelines.test_projection_phantom import (
    IN_GANTRY,
    KINDS,
    ORIGIN_LPS_MM,
    PIXEL_MM,
    PIXELS,
    POSITIONS,
    ROD_HU,
    ROD_LPS_MM,
    SLICES,
    TOP_Z_MM,
    VIEWS,
    ct_of,
    scanner,
)

SCAN_TYPE = 0x70371009


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Projections:
    return simulated_projections(ct_of(tmp_path_factory.mktemp("ct")), scanner(RayKind.FAN))


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Projections:
    return simulated_projections(ct_of(tmp_path_factory.mktemp("ct")), scanner(RayKind.PARALLEL))


def of_geometry(projections: Projections, **changes: Any) -> Projections:
    return replace(projections, geometry=replace(projections.geometry, **changes))


def of_header(projections: Projections, **changes: Any) -> Projections:
    return replace(projections, header=changed(deepcopy(projections.header), **changes))


def of_views(projections: Projections, kept: Any, missing: int = 0) -> Projections:
    """Only these views; the others are missing, so many of them announced."""
    geometry = projections.geometry
    chosen = np.arange(len(geometry.angles_rad))[kept]
    by_view = ("angles_rad", "axial_positions_mm", "angular_shifts_rad", "axial_shifts_mm", "radial_shifts_mm")
    return replace(
        of_geometry(projections, **{name: getattr(geometry, name)[chosen] for name in by_view}),
        line_integrals=projections.line_integrals[chosen],
        photons=None if projections.photons is None else projections.photons[chosen],
        missing_views=missing,
    )


def without(projections: Projections, *views: int) -> Projections:
    return of_views(projections, np.setdiff1d(np.arange(len(projections.line_integrals)), views), len(views))


def many_turns(fan: Projections, turns: int) -> Projections:
    """The first turn again and again, each one slice further on."""
    step_rad, views = 2 * np.pi / VIEWS, turns * VIEWS
    again = of_views(fan, np.tile(np.arange(VIEWS), turns))
    positions_mm = np.repeat(SLICE_MM * np.arange(turns), VIEWS)
    return of_geometry(again, angles_rad=step_rad * np.arange(views), axial_positions_mm=positions_mm)


def lps_mm(stack: ScanStack, index_zyx: NDArray[Any]) -> NDArray[np.float64]:
    place: NDArray[np.float64] = stack.affine @ [*index_zyx[::-1], 1.0]
    return place[:3]


def sentence_of(projections: Projections) -> str:
    with pytest.raises(InputRejected) as caught:
        scan_stack(projections, PIXELS)
    return str(caught.value)


@KINDS
@POSITIONS
def test_voxels_of_the_stack_are_those_of_the_ct(tmp_path: Path, rays: RayKind, position: str) -> None:
    paths = write_projections(ct_of(tmp_path, PatientPosition=position), scanner(rays), tmp_path / "views")
    stack = scan_stack(read_projections(paths), PIXELS)
    assert len(stack) == SLICES and stack.slice_mm == pytest.approx(SLICE_MM)
    assert stack.grid.pixel_mm == pytest.approx(PIXEL_MM)
    # The same corners: index 0 of the CT is index 0 of the stack, or its last one where the gantry sees it reversed.
    corners = np.array([[0, 0, 0], [SLICES - 1, PIXELS - 1, PIXELS - 1]])
    signs = np.array(IN_GANTRY[position][::-1])
    far_mm = np.add(ORIGIN_LPS_MM, np.array([PIXELS - 1, PIXELS - 1, SLICES - 1]) * [PIXEL_MM, PIXEL_MM, SLICE_MM])
    for index, expected in zip(corners, (ORIGIN_LPS_MM, far_mm), strict=True):
        seen = np.where(signs > 0, index, np.array([SLICES, PIXELS, PIXELS]) - 1 - index)
        assert lps_mm(stack, seen) == pytest.approx(expected, abs=1e-2)


@KINDS
@POSITIONS
def test_slices_and_their_rays_put_the_rod_where_the_ct_has_it(tmp_path: Path, rays: RayKind, position: str) -> None:
    ct = ct_of(tmp_path, PatientPosition=position)
    found = simulated_projections(ct, replace(scanner(rays), views=60))
    stack = scan_stack(found, PIXELS)
    (turn,) = stack.turns
    assert turn.slices == tuple(range(SLICES))
    images = hu_of(reconstructed(turn.line_integrals, turn.geometry), found.water_attenuation_per_mm)
    rod = np.argwhere(images > ROD_HU / 2)
    assert lps_mm(stack, rod.mean(axis=0)) == pytest.approx(ROD_LPS_MM, abs=0.3)
    lit = [number for number, views in zip(turn.slices, turn.line_integrals, strict=True) if views.max() > 0.1]
    assert [lps_mm(stack, np.array([number, 0, 0]))[2] for number in lit] == pytest.approx([TOP_Z_MM])


def test_each_slice_of_a_fan_has_the_views_of_its_turn(fan: Projections) -> None:
    (turn,) = scan_stack(fan, PIXELS).turns
    assert turn.views == tuple(tuple(range(first, first + VIEWS)) for first in range(0, SLICES * VIEWS, VIEWS))
    for number, views in enumerate(turn.views):
        np.testing.assert_array_equal(turn.line_integrals[number], fan.line_integrals[list(views), 0])


def test_each_slice_of_a_parallel_scan_has_all_views_and_a_row_of_its_own(parallel: Projections) -> None:
    (turn,) = scan_stack(parallel, PIXELS).turns
    assert turn.views == (tuple(range(VIEWS)),) * SLICES
    for number in range(SLICES):
        np.testing.assert_array_equal(turn.line_integrals[number], parallel.line_integrals[:, SLICES - 1 - number])


def test_turns_in_any_order_along_the_axis_give_the_same_slices(fan: Projections) -> None:
    outwards = np.arange(SLICES * VIEWS).reshape(SLICES, VIEWS)[::-1].ravel()
    straight, turned = scan_stack(fan, PIXELS), scan_stack(of_views(fan, outwards), PIXELS)
    np.testing.assert_array_equal(turned.turns[0].line_integrals, straight.turns[0].line_integrals)
    np.testing.assert_array_equal(turned.affine, straight.affine)


def test_a_slice_that_lacks_a_view_is_a_part_of_its_own(fan: Projections) -> None:
    many = many_turns(fan, 3)
    stack = scan_stack(without(many, VIEWS + 5), PIXELS)
    assert [turn.slices for turn in stack.turns] == [(0, 2), (1,)]
    assert [turn.geometry.views for turn in stack.turns] == [VIEWS, VIEWS - 1]
    assert stack.turns[1].views == (tuple(range(VIEWS, 2 * VIEWS - 1)),)
    assert stack.turns[0].views[1] == tuple(range(2 * VIEWS - 1, 3 * VIEWS - 1))
    assert stack.turns[1].geometry.angles_rad == pytest.approx(
        -np.delete(many.geometry.angles_rad[VIEWS : 2 * VIEWS], 5)
    )


def test_the_photons_of_a_slice_are_those_of_its_views(fan: Projections) -> None:
    photons = np.arange(fan.line_integrals[:, 0].size, dtype=np.float32).reshape(len(fan.line_integrals), -1)
    (turn,) = scan_stack(replace(fan, photons=photons), PIXELS).turns
    assert turn.photons is not None
    np.testing.assert_array_equal(turn.photons[2], photons[2 * VIEWS : 3 * VIEWS])
    assert scan_stack(fan, PIXELS).turns[0].photons is None


def test_without_a_reconstruction_diameter_the_image_is_what_every_view_covers(parallel: Projections) -> None:
    stack = scan_stack(of_header(parallel, ReconstructionDiameter=None), PIXELS)
    columns = parallel.line_integrals.shape[2]
    assert stack.covered_mm == pytest.approx((columns - 1) / 2 * PIXEL_MM)
    assert stack.grid.pixel_mm == pytest.approx(2 * stack.covered_mm / PIXELS)
    covered = stack.covered()
    assert covered[PIXELS // 2].all() and not covered[0, 0]


def test_without_a_collection_center_the_isocenter_is_the_origin(fan: Projections) -> None:
    with_center, silent = scan_stack(fan, PIXELS), scan_stack(of_geometry(fan, collection_center_lps_mm=None), PIXELS)
    middle = np.array([(SLICES - 1) / 2, (PIXELS - 1) / 2, (PIXELS - 1) / 2])
    assert lps_mm(silent, middle)[:2] == pytest.approx([0.0, 0.0])
    assert lps_mm(silent, middle)[2] == pytest.approx(lps_mm(with_center, middle)[2])


def test_a_single_turn_is_one_slice_as_thick_as_its_row(fan: Projections) -> None:
    stack = scan_stack(of_views(fan, slice(VIEWS)), PIXELS)
    assert len(stack) == 1 and stack.slice_mm == pytest.approx(SLICE_MM)


REFUSED: list[tuple[Callable[[Projections], Projections], str]] = [
    (
        lambda fan: of_geometry(fan, is_helical=True),
        "The projections are of a helical scan, which is not reconstructed",
    ),
    (
        lambda fan: replace(fan, line_integrals=np.repeat(fan.line_integrals, 2, axis=1)),
        "The projections are of a cone beam with 2 detector rows, which is not reconstructed",
    ),
    *[
        (
            lambda fan, name=name: of_geometry(fan, **{name: fan.geometry.axial_shifts_mm + 0.1}),
            "The projections are of a flying focal spot, which is not reconstructed",
        )
        for name in ("angular_shifts_rad", "axial_shifts_mm", "radial_shifts_mm")
    ],
    (
        lambda fan: of_header(fan, GantryDetectorTilt="-12.5"),
        "The gantry is tilted by 12.5 degrees, and slices are not axial",
    ),
    (
        lambda fan: of_geometry(
            fan, axial_positions_mm=fan.geometry.axial_positions_mm + 0.005 * np.arange(SLICES * VIEWS)
        ),
        "The table moved during a turn of the gantry",
    ),
    (
        lambda fan: of_geometry(fan, axial_positions_mm=np.arange(SLICES * VIEWS, dtype=float)),
        "A slice has 1 views, too few to make an image of",
    ),
    (
        lambda fan: without(many_turns(fan, 3), *range(VIEWS, 2 * VIEWS - 12)),
        "A slice has 12 views where others have 24",
    ),
    (lambda fan: of_views(fan, slice(None, None, 4)), "A slice has 6 views, too few to make an image of"),
    (
        lambda fan: of_views(fan, np.arange(SLICES * VIEWS) % VIEWS < VIEWS // 3),
        "The views of a slice cover 120 degrees, less than half a turn",
    ),
    (lambda fan: of_header(fan, PatientPosition=None), "Patient Position is absent, and not one of HFS, FFS, HFP, FFP"),
    (lambda fan: of_header(fan, PatientPosition="HFDL"), "Patient Position is HFDL, and not one of HFS, FFS, HFP, FFP"),
    (lambda fan: of_geometry(fan, central_column=-1.0), "The isocenter lies beyond the edge of the detector"),
    (lambda fan: of_geometry(fan, central_column=500.0), "The isocenter lies beyond the edge of the detector"),
    (
        lambda fan: of_geometry(fan, source_isocenter_mm=100.0, source_detector_mm=182.0),
        "The geometry of the scan can not be: the source lies inside the image",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_what_is_no_stack_of_slices_is_refused_in_a_sentence(
    fan: Projections, change: Callable[[Projections], Projections], sentence: str
) -> None:
    assert scan_stack(fan, PIXELS)
    assert sentence_of(change(fan)) == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda scan: of_geometry(scan, axial_positions_mm=0.1 * np.arange(VIEWS)),
            "The table moved between the views of a scan with parallel rays",
        ),
        (lambda scan: of_views(scan, slice(0, 12)), "The views of a slice cover 90 degrees, less than half a turn"),
        (lambda scan: of_views(scan, slice(None, None, 4)), "A slice has 6 views, too few to make an image of"),
    ],
)
def test_what_is_no_scan_with_parallel_rays_is_refused_in_a_sentence(
    parallel: Projections, change: Callable[[Projections], Projections], sentence: str
) -> None:
    assert scan_stack(parallel, PIXELS)
    assert sentence_of(change(parallel)) == sentence


@pytest.mark.parametrize("per_turn_mm", [0.1, 20.0])
def test_a_helical_scan_that_does_not_say_so_is_refused(tmp_path: Path, per_turn_mm: float) -> None:
    """Its views lie one by one along the axis, or so near that each seems to be at the place of the next."""
    series = helical(120, per_turn=40, feed_mm=per_turn_mm)
    for one in series:
        with_private(one, {SCAN_TYPE: ("CS", None)})
        one.Rows, one.Columns = 5, 1
        with_private(one, {0x70291010: ("US", 1), 0x70311033: ("FL", [3.0, 1.0])})
        one.PixelData = one.PixelData[::2]
    found = read_projections(write(series, tmp_path))
    assert not found.geometry.is_helical
    assert sentence_of(found) in (
        "The table moved during a turn of the gantry",
        "A slice has 1 views, too few to make an image of",
    )


@pytest.mark.parametrize("slice_number", [0, 7, 19])
def test_a_whole_slice_is_missed_although_it_is_only_a_twentieth_of_the_views(
    fan: Projections, slice_number: int
) -> None:
    scan = many_turns(fan, 20)
    assert len(scan_stack(scan, PIXELS)) == 20
    lacking = without(scan, *range(slice_number * VIEWS, (slice_number + 1) * VIEWS))
    assert sentence_of(lacking) == "24 views are missing that no slice lacks, as many as a whole slice has"


def test_a_slice_that_nothing_announces_is_missed_between_others_but_not_at_an_end(fan: Projections) -> None:
    scan = many_turns(fan, 5)
    between, end = (np.arange(5 * VIEWS) // VIEWS != number for number in (2, 4))
    assert sentence_of(of_views(scan, between)) == "The slices of the scan are not equally spaced"
    assert len(scan_stack(of_views(scan, end), PIXELS)) == 4


def test_views_that_are_missing_here_and_there_are_no_slice(fan: Projections) -> None:
    scan = many_turns(fan, 25)
    lacking = without(scan, *range(3, 25 * VIEWS, VIEWS + 1))
    assert lacking.missing_views == 24
    assert len(scan_stack(lacking, PIXELS)) == 25


def test_the_number_of_views_that_is_announced_tells_that_the_last_slice_is_missing(tmp_path: Path) -> None:
    """Through files, with twenty slices and what the reader lets pass."""
    hu = np.full((20, 16, 16), -1000, np.int16)
    views = write_projections(ct_of(tmp_path, hu), replace(scanner(RayKind.FAN), views=8), tmp_path / "views")
    assert dcmread(views[0]).ImagesInAcquisition == 160
    found = read_projections(views[:-8])
    assert found.missing_views == 8
    assert sentence_of(found) == "8 views are missing that no slice lacks, as many as a whole slice has"


def test_slices_that_are_not_equally_spaced_are_refused(fan: Projections) -> None:
    positions = fan.geometry.axial_positions_mm.copy()
    positions[:VIEWS] -= 0.1
    assert (
        sentence_of(of_geometry(fan, axial_positions_mm=positions)) == "The slices of the scan are not equally spaced"
    )


def test_views_in_files_of_any_order_are_the_same_stack(tmp_path: Path) -> None:
    paths = write_projections(ct_of(tmp_path), scanner(RayKind.FAN), tmp_path / "views")
    straight, mixed = (scan_stack(read_projections(order), PIXELS) for order in (paths, paths[::-1]))
    np.testing.assert_array_equal(mixed.turns[0].line_integrals, straight.turns[0].line_integrals)
    assert mixed.turns[0].views == straight.turns[0].views
