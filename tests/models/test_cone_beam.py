import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models import cone_beam
from models.cone_beam import ConeBeamGeometry, ConeBeamUnavailable, forward_projected, reconstructed

SHAPE = (24, 40, 44)
SPACING = (4.0, 3.0, 3.0)
FULL_FAN = ConeBeamGeometry(48, 64, 4.5, 4.5, views=90)
SHORT_SCAN = replace(FULL_FAN, views=100, arc_deg=210.0, first_deg=-30.0)
HALF_FAN = replace(FULL_FAN, columns=40, offset_mm=60.0, views=180)


def position_mm(axis: int, shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING) -> NDArray[np.float64]:
    along = np.asarray((np.arange(shape[axis]) - (shape[axis] - 1) / 2) * spacing[axis], np.float64)
    return along.reshape([-1 if n == axis else 1 for n in range(3)])


def ball(centre_zyx_mm: tuple[float, float, float], radius_mm: float) -> NDArray[np.float32]:
    """Density 1, with the edge spread over one voxel, so that its centre is exact."""
    distance = np.sqrt(sum((position_mm(n) - at) ** 2 for n, at in enumerate(centre_zyx_mm)))
    return np.clip((radius_mm - distance) / SPACING[0] + 0.5, 0.0, 1.0).astype(np.float32)


def shadow_mm(centre_zyx_mm: tuple[float, float, float], angle_deg: float) -> tuple[float, float]:
    """Row and column where the middle of a small ball's shadow falls, on the panel, from the central ray."""
    geometry = replace(FULL_FAN, views=1, first_deg=angle_deg)
    _, row, column = ndimage.center_of_mass(forward_projected(ball(centre_zyx_mm, 8.0), SPACING, geometry))
    return (row - (geometry.rows - 1) / 2) * geometry.row_mm, (column - (geometry.columns - 1) / 2) * geometry.column_mm


def test_the_central_ray_of_a_ball_is_its_diameter() -> None:
    views = forward_projected(ball((0.0, 0.0, 0.0), 30.0), SPACING, replace(FULL_FAN, rows=49, columns=65))
    np.testing.assert_allclose(views[:, 24, 32], 60.0, atol=0.6)


def test_a_cylinder_is_crossed_along_its_chords() -> None:
    disc = (np.hypot(position_mm(1), position_mm(2)) < 45.0).astype(np.float32).repeat(SHAPE[0], 0)
    geometry = replace(FULL_FAN, rows=49)
    middle = forward_projected(disc, SPACING, geometry)[:, 24].mean(axis=0)
    chord_mm = 2.0 * np.sqrt(np.maximum(45.0**2 - geometry.axis_distances_mm() ** 2, 0.0))
    inside = chord_mm > 40.0
    np.testing.assert_allclose(middle[inside], chord_mm[inside], rtol=0.02)


def test_the_source_starts_in_front_and_goes_to_the_patients_left() -> None:
    near, far = 1500.0 / (1000.0 - 30.0), 1500.0 / (1000.0 + 30.0)
    assert shadow_mm((20.0, -30.0, 0.0), 0.0)[0] == pytest.approx(20.0 * near, abs=0.3)
    assert shadow_mm((20.0, 30.0, 0.0), 0.0)[0] == pytest.approx(20.0 * far, abs=0.3)
    assert shadow_mm((20.0, 0.0, 30.0), 90.0)[0] == pytest.approx(20.0 * near, abs=0.3)
    assert shadow_mm((0.0, 0.0, 20.0), 0.0)[1] == pytest.approx(20.0 * 1.5, abs=0.3)


def test_views_can_be_asked_for_singly() -> None:
    volume = ball((10.0, -12.0, 15.0), 12.0)
    some = forward_projected(volume, SPACING, FULL_FAN, np.array([3, 70]))
    np.testing.assert_array_equal(some, forward_projected(volume, SPACING, FULL_FAN)[[3, 70]])


@pytest.mark.parametrize("geometry", [FULL_FAN, SHORT_SCAN, HALF_FAN], ids=["full turn", "short scan", "half fan"])
def test_a_cylinder_comes_back_with_its_density(geometry: ConeBeamGeometry) -> None:
    disc = (np.hypot(position_mm(1), position_mm(2)) < 45.0).astype(np.float32).repeat(SHAPE[0] * 3, 0)
    back = reconstructed(forward_projected(disc, SPACING, geometry), geometry, SHAPE, SPACING)
    assert back[8:16, 12:28, 14:30].mean() == pytest.approx(1.0, abs=0.005)
    assert back[12, 0, :].mean() == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("geometry", [FULL_FAN, SHORT_SCAN, HALF_FAN], ids=["full turn", "short scan", "half fan"])
@pytest.mark.parametrize("isocenter_zyx_mm", [(0.0, 0.0, 0.0), (5.0, -4.0, 7.0)])
def test_a_ball_stays_within_a_tenth_of_a_voxel(
    geometry: ConeBeamGeometry, isocenter_zyx_mm: tuple[float, float, float]
) -> None:
    placed = replace(geometry, isocenter_zyx_mm=isocenter_zyx_mm)
    volume = ball((12.0, -21.0, 18.0), 9.0)
    back = reconstructed(forward_projected(volume, SPACING, placed), placed, SHAPE, SPACING)
    near = ndimage.binary_dilation(volume > 0.0, iterations=2)
    before, after = (
        np.array(ndimage.center_of_mass(np.where(near & (image > 0.2), image, 0.0))) for image in (volume, back)
    )
    assert np.abs(after - before).max() < 0.1


def test_the_field_of_view_is_a_circle_cut_by_the_cone() -> None:
    seen = FULL_FAN.seen((101, 101, 101), (2.0, 2.0, 2.0))
    circle_mm = 1000.0 * np.sin(np.arctan(64 * 4.5 / 2 / 1500.0))
    assert seen[50].sum() * 4.0 == pytest.approx(np.pi * circle_mm**2, rel=0.02)
    half_length_mm = 48 * 4.5 / 2 / 1.5
    assert seen[:, 50, 50].sum() * 2.0 == pytest.approx(2 * half_length_mm, abs=2.0)
    assert seen[:, 50, 95].sum() * 2.0 == pytest.approx(2 * half_length_mm * (1.0 - 0.09), abs=2.0)


def test_a_displaced_panel_sees_further() -> None:
    shape, spacing = (1, 200, 200), (2.0, 2.0, 2.0)
    same_panel = replace(FULL_FAN, columns=40)
    assert HALF_FAN.seen(shape, spacing).sum() > 2 * same_panel.seen(shape, spacing).sum()


def test_a_displaced_panel_needs_a_full_turn() -> None:
    geometry = replace(HALF_FAN, arc_deg=200.0)
    with pytest.raises(ValueError, match="full turn"):
        reconstructed(np.zeros((180, 48, 40), np.float32), geometry, SHAPE, SPACING)


WARNED_AND_ENDED = """
import importlib
import warnings
from models import cone_beam
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("itk._ITKPyBasePython")
cone_beam._keep_types_of_extensions()
with warnings.catch_warnings():
    warnings.simplefilter("error")
    try:
        warnings.warn("the last one")
    except UserWarning:
        pass
"""
"""With the one extension of ITK that takes the table down: loading them all takes many seconds."""


def test_a_process_that_turns_warnings_into_errors_ends_in_good_order() -> None:
    assert subprocess.run([sys.executable, "-c", WARNED_AND_ENDED], check=False).returncode == 0


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cone_beam._library.cache_clear()
    monkeypatch.setitem(sys.modules, "itk", None)
    yield
    cone_beam._library.cache_clear()


@pytest.mark.usefixtures("no_library")
def test_without_the_library_one_sentence_says_what_to_install() -> None:
    with pytest.raises(ConeBeamUnavailable, match=r"needs itk-rtk: install rtnode with the extra cone-beam$"):
        forward_projected(np.zeros(SHAPE), SPACING, FULL_FAN)
