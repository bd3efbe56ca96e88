"""Seconds and peak memory of the features of a region of usual size, family by family, and of each kind of filter.

python -m tests.benchmarks.feature_speed [slices] [rows and columns]

The region is an ellipsoid that touches the box on all sides, in noise with a correlation length of tissue.
"""

import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.feature_settings import FeatureSettings
from models.ibsi_names import Family
from models.radiomics import features
from models.topology import diagram

SPACING_ZYX_MM = (1.0, 1.0, 1.0)
RESEGMENTED = {"resegmentation_range": [-1000, 400], "margin_mm": 20.0}
FILTERS: tuple[dict[str, object], ...] = (
    {"kind": "mean", "support_voxels": 5},
    {"kind": "laplacian_of_gaussian", "sigma_mm": 2.0},
    {"kind": "laws", "kernel": "L5E5E5"},
    {"kind": "gabor", "sigma_mm": 3.0, "wavelength_mm": 4.0, "angle_step_deg": 45.0},
    {"kind": "separable_wavelet", "family": "coif1", "bands": "LLH"},
    {"kind": "nonseparable_wavelet", "family": "simoncelli"},
)


def ellipsoid(slices: int, matrix: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """HU around 40 and the region in them."""
    shape = (slices, matrix, matrix)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0.0, 1.0, shape), 1.5)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return 40.0 + 30.0 * noise / noise.std(), z**2 + y**2 + x**2 <= 1


def timed(what: str, image: NDArray[np.float64], mask: NDArray[np.bool_], chosen: FeatureSettings | None) -> None:
    """Print a line about one set of features; of None, about the persistence diagram."""
    begin, cpu = time.perf_counter(), time.process_time()
    count = len(features(image, mask, SPACING_ZYX_MM, chosen)) if chosen else len(diagram(image, mask).birth)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    took = f"{seconds:>8.2f} s   {cpu_seconds:>7.2f} s of CPU"
    sys.stdout.write(f"{what:<28}{count:>7} values {took}   peak so far {peak_mib:>6.0f} MiB\n")
    sys.stdout.flush()


def main(slices: int = 64, matrix: int = 128) -> None:
    """Print a line for each set of features."""
    image, mask = ellipsoid(slices, matrix)
    sys.stdout.write(f"{mask.sum()} of {mask.size} voxels\n")
    # The first call loads the library.
    for what in ("all, first call", "all"):
        timed(what, image, mask, FeatureSettings.model_validate(RESEGMENTED))
    for family in Family:
        timed(family, image, mask, FeatureSettings.model_validate({**RESEGMENTED, "families": [family]}))
    for filter_ in FILTERS:
        chosen = FeatureSettings.model_validate({**RESEGMENTED, "families": ["statistics"], "filter": filter_})
        timed(f"filter {filter_['kind']}", image, mask, chosen)
    timed("persistence diagram", image, mask, None)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
