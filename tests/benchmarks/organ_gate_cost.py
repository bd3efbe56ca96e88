"""Seconds of the findings of a segmentation against those of the network, side by side.

python -m tests.benchmarks.organ_gate_cost [rounds] [file ...]

Both take turns on the same CT, test patients of OpenKBP below RTNODE_DATA unless `.npz` files are named, so a busy
machine slows them down alike: read the ratio, which is the median over rounds and images. CPU time of one process.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.engines import has_bf16
from models.organ_finder import OrganFinder, load_organ_finder
from models.organ_plausibility import plausibility_measures
from models.training.segmentation_calibration import found_in
from models.training.volumes import TrainingVolume, read_volume

DATA = Path(os.environ.get("RTNODE_DATA", "../shared/data"))
PATIENTS = ("pt_242", "pt_243", "pt_245")
WEIGHTS = "segment_headneck"


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def seconds_of(finder: OrganFinder, volume: TrainingVolume, rounds: int) -> NDArray[np.float64]:
    """(rounds, 2): of the network, and of the findings."""
    hu, spacing = volume.hu_zyx, volume.spacing_zyx_mm
    found = found_in(finder.find(hu, spacing))

    def findings() -> object:
        return plausibility_measures(
            finder.card, hu, spacing, found.masks, found.mean_probability, found.kept, found.look_disagreement
        )

    return np.array([(seconds(lambda: finder.find(hu, spacing)), seconds(findings)) for _ in range(rounds)])


def main(rounds: int = 3, *names: str) -> None:
    """Print medians and their ratio."""
    finder = load_organ_finder(WEIGHTS, bf16=has_bf16(), mirror=True)
    files = [Path(name) for name in names] or [DATA / "openkbp" / f"{patient}.npz" for patient in PATIENTS]
    ratios = []
    for file in files:
        volume = read_volume(file)
        pairs = seconds_of(finder, volume, rounds)
        network, gate = np.median(pairs, axis=0)
        ratios.append(float(np.median(pairs[:, 1] / pairs[:, 0])))
        size = " x ".join(map(str, volume.hu_zyx.shape))
        sys.stdout.write(f"{size}: network {network:.1f} s, findings {gate:.2f} s, ratio {ratios[-1]:.2f}\n")
    sys.stdout.write(f"{torch.get_num_threads()} threads, median ratio {np.median(ratios):.2f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, *sys.argv[2:])
