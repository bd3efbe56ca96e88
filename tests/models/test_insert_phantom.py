import numpy as np
import pytest

from models.insert_phantom import INSERTS, insert_places
from models.intensity import Hu

SPACING = (2.5, 0.9, 0.9)


def phantom(roll_deg: float = 0.0, centre_mm: tuple[float, float] = (120.0, 112.0), radius_mm: float = 100.0) -> Hu:
    """A CatPhan whose third of five slices has the inserts, each 20 HU too high; noise of 15 HU."""
    rows, columns = np.indices((260, 260)) * SPACING[1]
    row, column = rows - centre_mm[0], columns - centre_mm[1]
    disc = np.where(np.hypot(row, column) < radius_mm, 90.0, -1000.0)
    volume = np.repeat(disc[None], 5, axis=0)
    for insert in INSERTS.values():
        angle = np.radians(insert.angle_deg + roll_deg)
        rod = np.hypot(row - 58.7 * np.sin(angle), column - 58.7 * np.cos(angle)) < 6.0
        volume[2][rod] = insert.hu + 20.0
    return (volume + np.random.default_rng(0).normal(0.0, 15.0, volume.shape)).astype(np.float32)


@pytest.mark.parametrize("roll_deg", [0.0, 4.0, -7.5])
def test_the_inserts_are_found_and_measured_wherever_the_phantom_lies(roll_deg: float) -> None:
    volume = phantom(roll_deg)
    places = insert_places(volume, SPACING)
    assert places is not None and places.slice_index == 2
    assert places.centre_mm == pytest.approx((120.0, 112.0), abs=0.5)
    measured = places.measured(volume, SPACING)
    assert {name: round(hu - INSERTS[name].hu) for name, hu in measured.items()} == pytest.approx(
        dict.fromkeys(INSERTS, 20), abs=6
    )


def test_a_cylinder_without_inserts_is_no_such_phantom() -> None:
    volume = phantom()
    assert insert_places(volume[:2], SPACING) is None


def test_a_body_of_another_size_is_no_such_phantom() -> None:
    assert insert_places(phantom(radius_mm=75.0), SPACING) is None


def test_an_empty_image_is_no_such_phantom() -> None:
    assert insert_places(np.full((3, 64, 64), -1000.0, np.float32), SPACING) is None
