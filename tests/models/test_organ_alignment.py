import numpy as np
import pytest
from scipy import ndimage

from models.organ_alignment import organ_hu, organ_hu_departure_sd, organ_shift_mm

SPACING = (3.0, 2.0, 2.0)
Z, Y, X = np.meshgrid(np.arange(24), np.arange(40), np.arange(40), indexing="ij")
ORGAN = ((Z - 12) * 3.0) ** 2 + ((Y - 20) * 2.0) ** 2 + ((X - 20) * 2.0) ** 2 <= 15.0**2
IMAGE = ndimage.gaussian_filter(np.where(ORGAN, 60.0, -100.0), 0.7) + np.random.default_rng(6).normal(
    0.0, 10.0, ORGAN.shape
)


@pytest.mark.parametrize("voxels", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, -1)])
def test_the_shift_that_the_image_asks_for_is_that_of_the_masks(voxels: tuple[int, int, int]) -> None:
    mask = np.roll(ORGAN, voxels, (0, 1, 2))
    expected = float(np.linalg.norm(np.array(voxels) * SPACING))
    assert organ_shift_mm(IMAGE, {"Liver": mask}, SPACING) == pytest.approx(expected, abs=0.8)


def test_the_hu_of_an_organ_are_held_against_the_usual() -> None:
    usual = {"liver_hu": 30.0, "liver_hu_sd": 12.0}
    mean = organ_hu(IMAGE, {"Liver": ORGAN})["liver_hu"]
    assert organ_hu_departure_sd(IMAGE, {"Liver": ORGAN}, usual) == pytest.approx((mean - 30.0) / 12.0)
    assert organ_hu_departure_sd(IMAGE, {"Liver": ORGAN}, {}) is None
    assert organ_hu_departure_sd(IMAGE, {"Liver": np.zeros_like(ORGAN)}, usual) is None
