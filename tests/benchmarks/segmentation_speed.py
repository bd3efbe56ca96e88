"""Seconds and peak memory of finding the organs in a planning CT, with the shipped weights, on this machine.

python -m tests.benchmarks.segmentation_speed [slices] [matrix] [weights]

The CT is a made-up head and neck of 384 mm; the time depends on its size and on that of the body, not on what it shows.
"""

import sys
import time

import numpy as np
import torch

from models.organ_finder import load_organ_finder
from models.phantoms import head_and_neck_phantom
from models.training.peak_memory import forget_peak, peak_mib

FIELD_OF_VIEW_MM, SLICE_MM = 384.0, 1.5


def main(slices: int = 159, matrix: int = 512, weights: str = "segment_headneck") -> None:
    """One line for the image as it is, and one for the mirrored image looked at too."""
    pixel_mm = FIELD_OF_VIEW_MM / matrix
    spacing = (SLICE_MM, pixel_mm, pixel_mm)
    hu = head_and_neck_phantom((slices, matrix, matrix), spacing, np.random.default_rng(0)).hu_zyx
    sys.stdout.write(f"{slices} x {matrix} x {matrix}, {weights}, {torch.get_num_threads()} threads\n")
    for mirror in (False, True):
        finder = load_organ_finder(weights, bf16=True, mirror=mirror)
        forget_peak()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        found = finder.find(hu, spacing)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        what = "with the mirrored image" if mirror else "as it is"
        organs = sum(mask.any() for mask in found.masks().values())
        peak = f"peak {peak_mib():>6.0f} MiB"
        sys.stdout.write(f"{what:<26}{wall_s:>7.1f} s  CPU {cpu_s:>7.1f} s  {peak}  {organs} organs\n")


if __name__ == "__main__":
    slices_, matrix_, weights_ = (*sys.argv[1:], *("159", "512", "segment_headneck")[len(sys.argv) - 1 :])
    main(int(slices_), int(matrix_), weights_)
