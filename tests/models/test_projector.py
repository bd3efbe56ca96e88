import numpy as np
import pytest
from numpy.typing import NDArray

from models.projector import (
    ParallelGeometry,
    backprojected,
    covering_geometry,
    filtered_backprojection,
    projected,
)

GEOMETRY = covering_geometry(pixels=96, pixel_mm=2.0, views=90)
CENTRE_MM = (12.0, -20.0)  # (row, column)
RADIUS_MM = 50.0


def distance_mm(geometry: ParallelGeometry, centre_mm: tuple[float, float]) -> NDArray[np.float64]:
    axis_mm = (np.arange(geometry.pixels) - (geometry.pixels - 1) / 2) * geometry.pixel_mm
    return np.asarray(np.hypot(axis_mm[:, None] - centre_mm[0], axis_mm[None, :] - centre_mm[1]))


def disc(geometry: ParallelGeometry = GEOMETRY) -> NDArray[np.float32]:
    """Disc of value 1 with partial pixels at its rim."""
    rim = (RADIUS_MM - distance_mm(geometry, CENTRE_MM)) / geometry.pixel_mm + 0.5
    return np.clip(rim, 0.0, 1.0).astype(np.float32)


def test_the_backprojector_is_the_exact_transpose_of_the_projector() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 96)).astype(np.float32)
    y = rng.standard_normal((GEOMETRY.views, GEOMETRY.detectors)).astype(np.float32)
    forward = np.vdot(projected(x, GEOMETRY).astype(float), y)
    backward = np.vdot(x.astype(float), backprojected(y, GEOMETRY))
    assert forward == pytest.approx(backward, rel=1e-5)


def test_line_integrals_of_a_disc_are_its_chords() -> None:
    angles = GEOMETRY.angles_rad()[:, None]
    offset_mm = GEOMETRY.detector_positions_mm() - CENTRE_MM[1] * np.cos(angles) - CENTRE_MM[0] * np.sin(angles)
    chord_mm = 2.0 * np.sqrt(np.clip(RADIUS_MM**2 - offset_mm**2, 0.0, None))
    error_mm = np.abs(projected(disc(), GEOMETRY) - chord_mm)
    # A ray that grazes the rim sees the pixels, not the circle.
    assert error_mm[np.abs(offset_mm) < 0.9 * RADIUS_MM].max() < 1.2
    assert error_mm.mean() < 0.2


def test_a_slice_has_the_same_sum_in_every_view() -> None:
    sums = projected(disc(), GEOMETRY).sum(axis=1) * GEOMETRY.detector_mm
    assert sums == pytest.approx(np.full(GEOMETRY.views, np.pi * RADIUS_MM**2), rel=5e-3)


@pytest.mark.parametrize("hann", [False, True])
def test_filtered_backprojection_gives_the_value_of_a_disc(hann: bool) -> None:
    image = filtered_backprojection(projected(disc(), GEOMETRY), GEOMETRY, hann=hann)
    distance = distance_mm(GEOMETRY, CENTRE_MM)
    assert image[distance < RADIUS_MM - 8.0].mean() == pytest.approx(1.0, abs=2e-3)
    assert image[distance > RADIUS_MM + 8.0].mean() == pytest.approx(0.0, abs=2e-3)


def test_filtered_backprojection_is_independent_of_the_detector_spacing() -> None:
    finer = ParallelGeometry(96, 2.0, views=90, detectors=275, detector_mm=1.0)
    image = filtered_backprojection(projected(disc(finer), finer), finer)
    assert image[distance_mm(finer, CENTRE_MM) < RADIUS_MM - 8.0].mean() == pytest.approx(1.0, abs=3e-3)


def test_many_slices_give_what_each_gives_alone() -> None:
    slices = np.stack([disc(), 2.0 * disc()])
    together = projected(slices, GEOMETRY)
    assert together.shape == (2, GEOMETRY.views, GEOMETRY.detectors)
    np.testing.assert_allclose(together[1], projected(slices[1], GEOMETRY), rtol=1e-6)
