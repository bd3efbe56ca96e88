from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.projector import covering_geometry, projected
from models.scan_geometry import FanBeam, ImageGrid, ScanGeometry, full_turn, half_turn
from models.scan_projector import ScanProjector, backprojection, line_integrals
from tests.scans import FAN_ARC, FAN_FLAT, RADIUS_MM, arc_of, chords_mm, cylinder, fan_scan, parallel_scan

OFF_CENTRE = replace(fan_scan(angles_rad=full_turn(60)), grid=ImageGrid(70, 90, 2.0, (8.0, -12.0)))
SCANS = {
    "parallel": parallel_scan(views=60),
    "parallel, any angles": replace(parallel_scan(), angles_rad=(0.1, 2.0, -1.0, 0.7), central_element=70.25),
    "arc": fan_scan(angles_rad=full_turn(60)),
    "flat": fan_scan(angles_rad=full_turn(60), fan=FAN_FLAT),
    "arc, quarter offset": fan_scan(angles_rad=arc_of(60, 230.0), central_element=80.75),
    "image off centre": OFF_CENTRE,
}
scans = pytest.mark.parametrize("geometry", SCANS.values(), ids=SCANS.keys())


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).random(shape).astype(np.float32)


@scans
@pytest.mark.parametrize("slices", [1, 3])
def test_the_adjoint_is_the_exact_transpose(geometry: ScanGeometry, slices: int) -> None:
    projector = ScanProjector(geometry)
    x, y = random(slices, *geometry.image_shape), random(slices, *geometry.sinogram_shape)
    forward = np.vdot(projector.forward(x).astype(float), y)
    assert forward == pytest.approx(np.vdot(x.astype(float), projector.adjoint(y)), rel=1e-5)


@scans
def test_line_integrals_of_a_cylinder_are_its_chords(geometry: ScanGeometry) -> None:
    chord_mm = chords_mm(geometry)
    error_mm = np.abs(ScanProjector(geometry).forward(cylinder(geometry)) - chord_mm)
    # A ray that grazes the rim sees the pixels, not the circle.
    assert error_mm[chord_mm > 0.9 * RADIUS_MM].max() < 1.2
    assert error_mm.mean() < 0.2


def test_parallel_rays_are_those_of_the_older_projector() -> None:
    older = covering_geometry(pixels=48, pixel_mm=2.0, views=30)
    grid = ImageGrid(48, 48, 2.0)
    projector = ScanProjector(ScanGeometry(grid, half_turn(30), older.detectors, older.detector_mm))
    image = random(48, 48)
    np.testing.assert_array_equal(projector.forward(image), projected(image, older))


def test_a_fan_from_far_away_is_a_parallel_beam() -> None:
    parallel = parallel_scan(pixels=48, views=20)
    far = replace(parallel, fan=FanBeam(source_isocenter_mm=1e7, source_detector_mm=1e7))
    image = random(48, 48)
    near, expected = ScanProjector(far).forward(image), ScanProjector(parallel).forward(image)
    np.testing.assert_allclose(near, expected, atol=0.1)


def test_the_source_moves_from_anterior_to_the_left() -> None:
    geometry = fan_scan(angles_rad=(0.0, np.pi / 2.0), central_element=81.0)
    image = np.zeros(geometry.image_shape, np.float32)
    image[:, 60] = 1.0
    front, left = ScanProjector(geometry).forward(image)
    # 25 mm to the left of the axis, magnified by 1000 / 600 at the detector, is 12.5 elements from the centre.
    assert np.average(np.arange(geometry.detectors), weights=front) == pytest.approx(81.0 + 12.5, abs=0.5)
    assert left == pytest.approx(left[81] / np.cos(geometry.fan_angles_rad()), rel=0.05, abs=2.1)


def test_slices_are_the_same_together_and_alone() -> None:
    projector = ScanProjector(fan_scan(angles_rad=full_turn(20)))
    images = random(3, 96, 96)
    together = projector.forward(images)
    np.testing.assert_allclose(together[2], projector.forward(images[2]), rtol=1e-5)
    np.testing.assert_allclose(projector.adjoint(together)[1], projector.adjoint(together[1]), rtol=1e-5)


def test_some_views_are_those_of_the_whole() -> None:
    projector = ScanProjector(fan_scan(angles_rad=full_turn(20)))
    image = random(96, 96)
    some = projector.of_views([7, 3])
    np.testing.assert_array_equal(some.forward(image), projector.forward(image)[[7, 3]])
    assert some.geometry.angles_rad == tuple(projector.geometry.angles_rad[view] for view in (7, 3))


def test_torch_gets_the_gradient_of_line_integrals_and_of_backprojection() -> None:
    geometry = fan_scan(pixels=6, angles_rad=full_turn(4), pixel_mm=10.0)
    projector = ScanProjector(geometry, dtype=np.float64)
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 4, geometry.detectors, dtype=torch.float64, requires_grad=True)
    assert line_integrals(x, projector).shape == y.shape
    assert backprojection(y, projector).shape == x.shape
    assert torch.autograd.gradcheck(lambda image: line_integrals(image, projector), (x,))
    assert torch.autograd.gradcheck(lambda rays: backprojection(rays, projector), (y,))
    assert torch.autograd.gradgradcheck(lambda image: line_integrals(image, projector) ** 2, (x,))


def test_the_gradient_of_a_misfit_is_the_adjoint_of_the_residual() -> None:
    projector = ScanProjector(fan_scan(angles_rad=full_turn(20)))
    image, measured = random(1, 1, 96, 96), random(1, *projector.geometry.sinogram_shape)
    x = torch.from_numpy(image).requires_grad_()
    (0.5 * (line_integrals(x, projector) - torch.from_numpy(measured)).square().sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    expected = projector.adjoint(projector.forward(image[:, 0]) - measured)
    np.testing.assert_allclose(x.grad[:, 0].numpy(), expected, rtol=1e-4)


def test_memory_is_8_bytes_for_each_crossing_and_as_much_for_the_transpose() -> None:
    projector = ScanProjector(ScanGeometry(ImageGrid(64, 64, 1.0), (0.0,), 64, 1.0))
    # Vertical rays through the middle of 64 columns cross one pixel in each row.
    assert projector.memory_bytes == 2 * 8 * 64 * 64 + 4 * (64 + 1) + 4 * (64 * 64 + 1)


def test_arrays_of_another_shape_are_refused() -> None:
    projector = ScanProjector(parallel_scan(pixels=8, views=3))
    with pytest.raises(ValueError, match=r"\(9, 8\) is not \(\[slice,\] 8, 8\)"):
        projector.forward(random(9, 8))
    with pytest.raises(ValueError, match=r"\(3, 11\) is not \(\[slice,\] 3, 12\)"):
        projector.adjoint(random(3, 11))


def test_impossible_scans_are_refused() -> None:
    with pytest.raises(ValueError, match="the source lies inside the image"):
        fan_scan(fan=FanBeam(source_isocenter_mm=100.0, source_detector_mm=200.0))
    with pytest.raises(ValueError, match="needs a view"):
        fan_scan(angles_rad=())
    assert FAN_ARC.source_isocenter_mm > fan_scan().grid.reach_mm()
