"""Dose-volume measures against formulas: ramps, uniform doses and an inverse-square source in spheres and cylinders."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

from models.dose_metrics import DoseVolumeHistogram, dose_measures, eqd2_gy
from models.dose_samples import DoseGrid, DoseRefused, DoseSamples, Region, part_inside, sampled

GRID_MM = 3.0
CENTER = np.array([0.7, -0.4, 0.9])
"""Of the regions, away from voxel centres."""
HALF_PERCENT = 5e-3


def affine(mm: float, voxels: int, slice_mm: float | None = None) -> NDArray[np.float64]:
    matrix = np.diag([mm, mm, slice_mm or mm, 1.0])
    matrix[:3, 3] = -(voxels - 1) / 2.0 * np.array([mm, mm, slice_mm or mm])
    return matrix


def points(shape: tuple[int, int, int], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    k, j, i = np.indices(shape)
    return np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]


def sphere(radius_mm: float, mm: float = GRID_MM, center: NDArray[np.float64] = CENTER, parts: int = 6) -> Region:
    """A sphere by the part of each voxel that it fills."""
    voxels = 2 * int(np.ceil((radius_mm + np.abs(center).max()) / mm)) + 3
    fine = affine(mm / parts, voxels * parts)
    inside = np.linalg.norm(points((voxels * parts,) * 3, fine) - center, axis=-1) <= radius_mm
    return Region(part_inside(inside, (parts,) * 3), affine(mm, voxels))


def ramp(mm: float = GRID_MM, voxels: int = 41, gy_per_mm: float = 0.5, gy: float = 50.0) -> DoseGrid:
    matrix = affine(mm, voxels)
    return DoseGrid(gy + gy_per_mm * points((voxels,) * 3, matrix)[..., 0], matrix)


def histogram(dose: DoseGrid, region: Region) -> DoseVolumeHistogram:
    return DoseVolumeHistogram(sampled(dose, region))


def values(found: DoseVolumeHistogram, *names: str, prescription_gy: float | None = None) -> list[float]:
    return [measure.value for measure in dose_measures(found, names, prescription_gy)]


def cap_height(part: float) -> float:
    """Height over radius of the cap that holds this part of a sphere: h^2 (3 - h) / 4."""
    return float(brentq(lambda h: h * h * (3.0 - h) / 4.0 - part, 0.0, 2.0))


@pytest.mark.parametrize("radius_mm", [5.0, 8.0, 20.0])
def test_a_sphere_in_a_ramp_has_the_doses_of_its_caps(radius_mm: float) -> None:
    found = histogram(ramp(), sphere(radius_mm))
    middle, swing = 50.0 + 0.5 * CENTER[0], 0.5 * radius_mm
    expected = [middle + swing * (1.0 - cap_height(part)) for part in (0.02, 0.5, 0.9, 0.98)]
    assert found.volume_ml == pytest.approx(4.0 / 3.0 * np.pi * radius_mm**3 / 1000.0, rel=HALF_PERCENT)
    assert values(found, "D2%", "D50%", "D90%", "D98%") == pytest.approx(expected, rel=HALF_PERCENT)
    assert values(found, "Mean", "Max", "Min") == pytest.approx([middle, middle + swing, middle - swing], rel=0.01)


def test_the_mask_of_a_small_sphere_alone_gives_its_mean_and_d90() -> None:
    region = sphere(8.0)
    found = histogram(ramp(), Region(region.inside_zyx >= 0.5, region.affine))
    expected = [50.0 + 0.5 * CENTER[0], 50.0 + 0.5 * CENTER[0] + 4.0 * (1.0 - cap_height(0.9))]
    assert values(found, "Mean", "D90%") == pytest.approx(expected, rel=HALF_PERCENT)


def test_a_cylinder_along_a_ramp_has_a_straight_histogram() -> None:
    length_mm, radius_mm, parts = 36.0, 10.0, 6
    fine = affine(GRID_MM / parts, 21 * parts)
    place = points((21 * parts,) * 3, fine) - CENTER
    inside = (np.abs(place[..., 0]) <= length_mm / 2.0) & (np.hypot(place[..., 1], place[..., 2]) <= radius_mm)
    found = histogram(ramp(), Region(part_inside(inside, (parts,) * 3), affine(GRID_MM, 21)))
    low, high = (50.0 + 0.5 * (CENTER[0] + side * length_mm / 2.0) for side in (-1, 1))
    fractions = np.array([0.1, 0.5, 0.9])
    expected = high - fractions * (high - low)
    assert values(found, "D10%", "D50%", "D90%") == pytest.approx(list(expected), rel=HALF_PERCENT)
    assert values(found, "V50Gy[cc]") == pytest.approx(
        [np.pi * radius_mm**2 * (high - 50.0) / 0.5 / 1000.0], rel=HALF_PERCENT
    )


def test_a_uniform_dose_is_that_dose_by_every_measure() -> None:
    dose = DoseGrid(np.full((41, 41, 41), 60.0), affine(GRID_MM, 41))
    found = histogram(dose, sphere(15.0))
    names = ("Min", "Max", "Mean", "D2%", "D90%", "D98%", "D2cc")
    assert values(found, *names) == pytest.approx([60.0] * len(names))
    assert values(found, "V100%", "V60Gy", "V150%", prescription_gy=60.0) == pytest.approx([100.0, 100.0, 0.0])
    assert [found.geud_gy(a) for a in (-10.0, 1.0, 8.0)] == pytest.approx([60.0] * 3)


def test_an_inverse_square_source_in_the_middle_of_a_sphere() -> None:
    """D = k / r^2 of at most k / 3^2: the volume that gets D or more is a sphere of radius sqrt(k / D)."""
    prescription_gy, radius_mm, mm, core_mm = 145.0, 18.0, 1.0, 3.0
    k = prescription_gy * radius_mm**2
    matrix = affine(mm, 51)
    r = np.linalg.norm(points((51,) * 3, matrix) - CENTER, axis=-1)
    found = histogram(DoseGrid(k / np.maximum(r, core_mm) ** 2, matrix), sphere(radius_mm, mm, parts=3))
    expected_gy = [k / (part ** (1.0 / 3.0) * radius_mm) ** 2 for part in (0.9, 0.98)]
    assert values(found, "D90%", "D98%") == pytest.approx(expected_gy, rel=HALF_PERCENT)
    assert values(found, "D2cc") == pytest.approx([k / (2000.0 * 0.75 / np.pi) ** (2.0 / 3.0)], rel=HALF_PERCENT)
    expected_percent = [100.0 * level**-1.5 for level in (1.5, 2.0)]
    assert values(found, "V150%", "V200%", prescription_gy=prescription_gy) == pytest.approx(
        expected_percent, rel=HALF_PERCENT
    )
    mean = 3.0 * k * ((radius_mm - core_mm) + core_mm / 3.0) / radius_mm**3
    assert found.mean_gy == pytest.approx(mean, rel=HALF_PERCENT)


def test_the_generalised_eud_of_a_ramp() -> None:
    """Of doses even from 0 to D: D (1 + a)^(-1/a)."""
    doses = (np.arange(10_000) + 0.5) / 10_000 * 40.0
    found = DoseVolumeHistogram(DoseSamples(doses, np.ones_like(doses)))
    assert [found.geud_gy(a) for a in (1.0, 2.0, 8.0)] == pytest.approx(
        [20.0, 40.0 / 3**0.5, 40.0 / 9**0.125], rel=1e-4
    )
    assert found.geud_gy(-0.5) == pytest.approx(40.0 * 0.5**2, rel=0.02)
    with pytest.raises(DoseRefused, match="exponent 0"):
        found.geud_gy(0.0)


def test_eqd2_is_counted_in_every_voxel() -> None:
    # 20 fractions of 3 Gy at alpha/beta 3: 60 * 6 / 5; 20 of 2 Gy stay; 20 of 1 Gy: 20 * 4 / 5.
    assert eqd2_gy(np.array([60.0, 40.0, 20.0]), 20, 3.0) == pytest.approx([72.0, 40.0, 16.0])
    with pytest.raises(DoseRefused):
        eqd2_gy(np.ones(1), 0, 3.0)


def test_the_curve_says_what_the_values_say() -> None:
    found = histogram(ramp(), sphere(8.0))
    levels, percent = found.curve(0.5)
    assert percent[0] == pytest.approx(100.0)
    assert percent[-1] == 0.0
    assert list(percent) == pytest.approx([found.volume_from_percent(gy) for gy in levels])


def test_grids_that_are_turned_against_each_other_agree() -> None:
    turned = affine(GRID_MM, 41)
    angle = np.radians(30.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = turn @ turned
    dose = DoseGrid(50.0 + 0.5 * points((41,) * 3, matrix)[..., 0], matrix)
    straight, other = histogram(ramp(), sphere(8.0)), histogram(dose, sphere(8.0))
    names = ("Mean", "D2%", "D98%", "D1cc")
    assert values(other, *names) == pytest.approx(values(straight, *names), rel=1e-6)


def test_a_large_region_is_measured_without_being_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.dose_samples.MOST_PARTS", 10)
    found = histogram(ramp(), sphere(20.0))
    assert found.volume_ml == pytest.approx(33.51, rel=HALF_PERCENT)
    assert found.mean_gy == pytest.approx(50.35, rel=HALF_PERCENT)


@pytest.mark.parametrize(
    ("inside", "sentence"),
    [
        (np.zeros((3, 3, 3), np.bool_), "The region has no voxel"),
        (np.full((3, 3, 3), 1.5), "The region has voxels that are less than empty or more than full"),
        (np.ones((9, 3, 3), np.bool_), "The region is not wholly inside the dose grid"),
    ],
)
def test_a_region_that_can_not_be_measured_is_refused(inside: NDArray[Any], sentence: str) -> None:
    with pytest.raises(DoseRefused, match=f"^{sentence}$"):
        sampled(DoseGrid(np.ones((7, 7, 7)), affine(GRID_MM, 7)), Region(inside, affine(GRID_MM, 7)))


def test_a_region_may_fill_the_dose_grid_to_the_faces_of_its_voxels() -> None:
    whole = Region(np.ones((7, 7, 7), np.bool_), affine(GRID_MM, 7))
    assert histogram(DoseGrid(np.ones((7, 7, 7)), affine(GRID_MM, 7)), whole).volume_ml == pytest.approx(
        21.0**3 / 1000.0
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("V100%", "V100% needs a prescription"),
        ("D90%[%]", "D90%[%] needs a prescription"),
        ("D90Gy", "D90Gy is not the name of a dose measure"),
        ("V20Gy[Gy]", "V20Gy[Gy] is not the name of a dose measure"),
        ("mean", "mean is not the name of a dose measure"),
        ("D101%", "A region has no 101 % of its volume"),
        ("D9cc", "The region has 1.00 mL, less than the 9 mL asked for"),
    ],
)
def test_a_measure_that_can_not_be_taken_is_refused(name: str, sentence: str) -> None:
    one = DoseVolumeHistogram(DoseSamples(np.ones(4), np.full(4, 0.25)))
    with pytest.raises(DoseRefused) as caught:
        dose_measures(one, [name])
    assert str(caught.value) == sentence


def test_measures_have_units() -> None:
    one = DoseVolumeHistogram(DoseSamples(np.array([10.0, 20.0]), np.ones(2)))
    found = dose_measures(one, ["Mean", "D50%", "D1cc[%]", "V20Gy", "V15Gy[cc]"], 40.0)
    assert [(m.unit, m.value) for m in found] == [
        ("Gy", 15.0), ("Gy", 15.0), ("%", 37.5), ("%", 50.0), ("mL", 1.0)
    ]  # fmt: skip
