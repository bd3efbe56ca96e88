"""Contours on a dose grid: partial voxels, measured against the formulas of a cylinder."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.dose_metrics import DoseVolumeHistogram, dose_measures
from models.dose_samples import sampled
from pipelines.base import InputRejected
from pipelines.dicom.dose import Dose
from pipelines.dicom.dose_grids import dose_grid
from pipelines.dicom.dose_regions import roi_on_dose_grid
from pipelines.dicom.structure_set import RoiContours, StructureSet
from tests.pipelines.dicom.test_dose_grids import linear, volume

RADIUS_MM, CONTOUR_MM = 5.0, 2.0
PLANES_MM = np.arange(-5.0, 6.0, CONTOUR_MM)


def circle(z_mm: float, radius_mm: float = RADIUS_MM, x_mm: float = 0.7) -> NDArray[np.float64]:
    angle = np.linspace(0.0, 2.0 * np.pi, 90, endpoint=False)
    return np.stack([x_mm + radius_mm * np.cos(angle), radius_mm * np.sin(angle), np.full(90, z_mm)], axis=1)


def roi(contours: Sequence[NDArray[np.float64]]) -> RoiContours:
    return RoiContours(7, "Prostate", "CTV", tuple(contours), (frozenset(),) * len(contours), 0)


def structures(frame_of_reference_uid: str = "1.2.9") -> StructureSet:
    return StructureSet("1.2.5", frame_of_reference_uid, "1.2.6", ())


def dose() -> Dose:
    grid = volume((9, 10, 11), (3.0, 3.0, 3.0), (-15.0, -13.5, -12.0))
    return Dose(linear(grid), "1.2.9", "PHYSICAL", "PLAN", "1.2.3")


def test_a_small_cylinder_has_its_volume_and_its_doses() -> None:
    region = roi_on_dose_grid(structures(), roi([circle(z) for z in PLANES_MM]), dose())
    found = DoseVolumeHistogram(sampled(dose_grid(dose()), region))
    height_mm = CONTOUR_MM * len(PLANES_MM)
    assert found.volume_ml == pytest.approx(np.pi * RADIUS_MM**2 * height_mm / 1000.0, rel=0.005)
    values = [measure.value for measure in dose_measures(found, ["Mean", "D2%", "D98%"])]
    # The oblique ramp over the cylinder, by sampling it ten times finer than the code does.
    z, y, x = np.meshgrid(
        *[np.arange(-half, half, 0.1) + 0.05 for half in (height_mm / 2, RADIUS_MM, RADIUS_MM)], indexing="ij"
    )
    gy = (30.0 + 0.1 * (x + 0.7) - 0.2 * y + 0.3 * z)[np.hypot(x, y) <= RADIUS_MM]
    assert values == pytest.approx([30.07, *np.percentile(gy, [98, 2])], rel=0.005)
    assert ((region.inside_zyx > 0.0) & (region.inside_zyx < 1.0)).any()


def test_a_region_reaches_to_the_face_of_the_grid_and_no_farther() -> None:
    fits = [circle(z) for z in (10.5, 11.5, 12.5)]
    region = roi_on_dose_grid(structures(), roi(fits), dose())
    assert float(region.inside_zyx.sum()) * region.voxel_ml == pytest.approx(np.pi * 25.0 * 3.0 / 1000.0, rel=0.01)
    with pytest.raises(InputRejected, match="not wholly inside the dose grid"):
        roi_on_dose_grid(structures(), roi([*fits, circle(13.5)]), dose())


@pytest.mark.parametrize(
    ("frame", "contours", "sentence"),
    [
        ("1.2.8", [circle(0.0), circle(2.0)], "The structure set and the dose have different Frames of Reference"),
        ("1.2.9", [], "The region Prostate is drawn in fewer than two planes"),
        ("1.2.9", [circle(0.0)], "The region Prostate is drawn in fewer than two planes"),
        ("1.2.9", [circle(z, 0.01) for z in PLANES_MM], "The region Prostate has no inside"),
        ("1.2.9", [circle(z, x_mm=16.0) for z in PLANES_MM], "The region Prostate is not wholly inside the dose grid"),
        (
            "1.2.9",
            [circle(z)[:, [2, 1, 0]] + [0.0, 0.0, z] for z in PLANES_MM],
            "A contour does not lie in a slice plane of the images",
        ),
    ],
)
def test_a_region_that_can_not_be_placed_is_refused(
    frame: str, contours: list[NDArray[np.float64]], sentence: str
) -> None:  # fmt: skip
    with pytest.raises(InputRejected, match=f"^{sentence}$"):
        roi_on_dose_grid(structures(frame), roi(contours), dose())
