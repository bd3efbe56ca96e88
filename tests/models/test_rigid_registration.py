"""Rigid registration against motions that are known, on phantoms as megavoltage CT and cone-beam CT show them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from models.intensity import AIR_HU
from models.phantoms import head_and_neck_phantom
from models.placed_image import PlacedImage
from models.rigid_motion import Matrix, carried, resampled
from models.rigid_registration import RigidRegistration, described, rigid
from models.simulate import COARSE_MVCT, CentralPlaneSettings, central_plane_cbct, simulated_mvct

SHAPE = (48, 96, 96)
SPACING = (4.0, 4.0, 4.0)
AFFINE = np.array([[4.0, 0, 0, -190], [0, 4, 0, -190], [0, 0, 4, -94], [0, 0, 0, 1]])
MIDDLE = slice(10, 38)
LOOK = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@cache
def planning() -> NDArray[np.float32]:
    return head_and_neck_phantom(SHAPE, SPACING, np.random.default_rng(3)).hu_zyx


def motion(axis: tuple[float, float, float], deg: float, shift_mm: tuple[float, float, float]) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(deg) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def of_the_day(matrix: Matrix) -> NDArray[np.float32]:
    """The moved patient in the middle slices; beyond its ends the scan goes on as in its last slice."""
    to_index = np.linalg.inv(AFFINE) @ np.linalg.inv(matrix) @ AFFINE
    moved: NDArray[np.float32] = ndimage.affine_transform(
        planning(), to_index[:3, :3][::-1, ::-1], to_index[:3, 3][::-1], order=1, mode="nearest"
    )
    return moved[MIDDLE]


def as_mvct(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    return simulated_mvct(hu, SPACING, COARSE_MVCT, np.random.default_rng(1))


def as_cbct(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    return central_plane_cbct(hu, SPACING, CentralPlaneSettings(), np.random.default_rng(1))


def other_hu(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(hu > -600, 0.7 * hu + 120.0, hu).astype(np.float32)


def truncated(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """A field of view of 180 mm, less than the head is long."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    return np.where(np.hypot(y - 47.5, x - 47.5) * 4.0 <= 90.0, as_cbct(hu), np.float32(AIR_HU))


def on_a_couch(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """The couch lies where it lies, however the patient moved."""
    lying = as_cbct(hu)
    lying[:, 76:79, 10:86] = 200.0
    return lying


def moved_image(hu: NDArray[np.float32]) -> PlacedImage:
    affine = AFFINE.copy()
    affine[:3, 3] += AFFINE[:3, 2] * MIDDLE.start
    return PlacedImage(hu, affine)


def found(day: NDArray[np.float32], start: Matrix | None = None, inverse: bool = False) -> RigidRegistration:
    return rigid(moved_image(day), PlacedImage(planning(), AFFINE), start, check_inverse=inverse)


def error_mm_and_deg(matrix: Matrix, truth: Matrix) -> tuple[float, float]:
    """At the corners of a box of 120 x 120 x 80 mm about the middle, where organs lie; the angle between both."""
    corners = np.array(np.meshgrid((-60.0, 60), (-60.0, 60), (-40.0, 40))).reshape(3, -1).T
    off_mm = np.linalg.norm(carried(corners, matrix) - carried(corners, truth), axis=1).max()
    angle = Rotation.from_matrix(matrix[:3, :3] @ truth[:3, :3].T).magnitude()
    return float(off_mm), float(np.degrees(angle))


FAR = motion((1.0, -2.0, 0.5), 5.0, (14.0, -18.0, 19.0))
NEAR = motion((0.2, 0.3, 1.0), 2.0, (3.0, 2.0, -4.0))


@pytest.mark.parametrize(
    ("look", "truth"), [(as_mvct, FAR), (as_cbct, FAR), (other_hu, FAR), (on_a_couch, FAR), (as_mvct, NEAR)]
)
def test_a_known_motion_is_found_within_half_a_millimetre_and_half_a_degree(look: LOOK, truth: Matrix) -> None:
    registration = found(look(of_the_day(truth)))
    off_mm, off_deg = error_mm_and_deg(registration.matrix, truth)
    assert off_mm < 0.5
    assert off_deg < 0.5
    assert registration.converged
    assert registration.correlation_after > max(0.85, registration.correlation_before)


def test_a_truncated_field_of_view_costs_less_than_a_millimetre() -> None:
    registration = found(truncated(of_the_day(FAR)))
    off_mm, off_deg = error_mm_and_deg(registration.matrix, FAR)
    assert off_mm < 1.0
    assert off_deg < 0.5
    assert registration.fixed_body_covered > 0.95
    assert registration.moving_body_covered < 0.7


def test_the_figures_say_how_large_the_motion_is_and_how_well_it_comes_back() -> None:
    truth = motion((0.0, 0.0, 1.0), 4.0, (0.0, 0.0, 12.0))
    registration = found(as_cbct(of_the_day(truth)), np.eye(4), inverse=True)
    assert registration.rotation_deg == pytest.approx(4.0, abs=0.3)
    center = np.linalg.norm(carried(np.zeros((1, 3)), truth))
    assert registration.translation_mm == pytest.approx(center, abs=1.5)
    assert registration.inverse_consistency_mm < 1.0
    assert np.array_equal(registration.start, np.eye(4))


def test_frames_far_from_each_other_need_no_start_and_a_wrong_start_does_no_harm() -> None:
    truth = motion((1.0, 0.0, 0.0), 3.0, (150.0, -80.0, 400.0))
    day = as_cbct(of_the_day(motion((1.0, 0.0, 0.0), 3.0, (0.0, 0.0, 0.0))))
    image = moved_image(day)
    image.affine[:3, 3] += (150.0, -80.0, 400.0)
    for start in (None, motion((0.0, 1.0, 0.0), 20.0, (150.0, -80.0, 460.0))):
        matrix = rigid(image, PlacedImage(planning(), AFFINE), start, check_inverse=False).matrix
        off_mm = np.linalg.norm(carried(np.zeros((1, 3)), matrix) - carried(np.zeros((1, 3)), truth))
        assert off_mm < 0.5


def test_a_given_registration_is_described_without_a_search() -> None:
    day = moved_image(as_cbct(of_the_day(NEAR)))
    right, wrong = (described(day, PlacedImage(planning(), AFFINE), matrix) for matrix in (NEAR, FAR))
    assert np.array_equal(right.matrix, NEAR)
    assert np.isnan(right.inverse_consistency_mm)
    assert right.correlation_after > 0.9 > wrong.correlation_after
    assert right.mutual_information > 2 * wrong.mutual_information
    assert described(day, PlacedImage(planning(), AFFINE), motion((1, 0, 0), 0, (900, 0, 0))).mutual_information == 0.0


def test_the_same_images_give_the_same_bits_whatever_the_number_of_threads() -> None:
    day = as_cbct(of_the_day(NEAR))
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()  # type: ignore[no-untyped-call]
    matrices = []
    try:
        for threads in (1, 3):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)  # type: ignore[no-untyped-call]
            matrices.append(found(day).matrix.tobytes())
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)  # type: ignore[no-untyped-call]
    assert matrices[0] == matrices[1]


def test_an_image_without_a_body_is_refused() -> None:
    with pytest.raises(ValueError, match="shows no body"):
        found(np.full(SHAPE, AIR_HU, np.float32)[MIDDLE])


def test_a_resampled_image_lies_where_the_matrix_takes_it() -> None:
    ball = np.zeros((9, 9, 9), np.float32)
    ball[4, 3, 2] = 1.0
    shifted = resampled(ball, np.eye(4), ball.shape, np.eye(4), motion((0, 0, 1), 90.0, (7.0, 2.0, -1.0)), 0.0)
    assert np.argwhere(shifted > 0.5).tolist() == [[3, 4, 4]]
