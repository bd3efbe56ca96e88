"""Seconds for the dose-volume measures of many regions on one dose grid.

python -m tests.benchmarks.dvh_speed [regions] [dose voxels along an axis] [rounds]

The dose grid has voxels of 3 mm, the regions are masks on an image grid of 1 x 1 x 3 mm: spheres of 5 to 60 mm radius,
half of them within 20 mm. Threads are those of OMP_NUM_THREADS.
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray

from models.dose_metrics import DoseVolumeHistogram, dose_measures
from models.dose_samples import DoseGrid, Region, sampled

DOSE_MM, IMAGE_MM = 3.0, (3.0, 1.0, 1.0)
NAMES = ("Mean", "Min", "Max", "D2%", "D90%", "D98%", "V20Gy", "V100%", "V150%")


def dose_grid(voxels: int) -> DoseGrid:
    """A smooth hill of 70 Gy in the middle."""
    axis = (np.arange(voxels) - (voxels - 1) / 2.0) * DOSE_MM
    square = np.square(axis)
    distance = square[:, None, None] + square[:, None] + square
    affine = np.diag([DOSE_MM, DOSE_MM, DOSE_MM, 1.0])
    affine[:3, 3] = axis[0]
    return DoseGrid(70.0 * np.exp(-distance / (2.0 * 50.0**2)), affine)


def spheres(count: int, extent_mm: float, seed: int = 5) -> list[Region]:
    """Masks in boxes of their own, somewhere in the middle half of the dose."""
    random = np.random.default_rng(seed)
    radii = np.concatenate([np.linspace(5.0, 20.0, count - count // 2), np.linspace(25.0, 60.0, count // 2)])
    return [sphere(radius, random.uniform(-0.1, 0.1, 3) * extent_mm) for radius in radii]


def sphere(radius_mm: float, center: NDArray[np.float64]) -> Region:
    """A mask on the image grid."""
    sizes = [2 * int(np.ceil(radius_mm / mm)) + 3 for mm in IMAGE_MM]
    axes = [(np.arange(n) - (n - 1) / 2.0) * mm for n, mm in zip(sizes, IMAGE_MM, strict=True)]
    z, y, x = (np.square(axis) for axis in axes)
    affine = np.diag([*IMAGE_MM[::-1], 1.0])
    affine[:3, 3] = center + np.array([axis[0] for axis in axes[::-1]])
    return Region(z[:, None, None] + y[:, None] + x <= radius_mm**2, affine)


def main(regions: int = 20, voxels: int = 128, rounds: int = 3) -> None:
    """Print the seconds of every round."""
    dose = dose_grid(voxels)
    drawn = spheres(regions, voxels * DOSE_MM)
    for _ in range(rounds):
        start = time.perf_counter()
        samples = [sampled(dose, region) for region in drawn]
        sampled_s = time.perf_counter() - start
        for one in samples:
            dose_measures(DoseVolumeHistogram(one), NAMES, 60.0)
        total_s = time.perf_counter() - start
        parts = sum(len(one.gy) for one in samples) / 1e6
        sys.stdout.write(
            f"{regions} regions on {voxels}^3 voxels of {DOSE_MM:g} mm: {total_s:.2f} s, of which sampling "
            f"{sampled_s:.2f} s, {parts:.1f} million samples\n"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
