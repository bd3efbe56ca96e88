"""Seconds of the findings of an enhancement against those of the network, side by side.

python -m tests.benchmarks.gate_cost [slices] [matrix] [rounds]

Both take turns on the same simulated MVCT of a phantom, so a busy machine slows them down alike: read the ratio,
which is the median over rounds. Threads are those of OMP_NUM_THREADS.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from models.enhancement_measures import enhancement_measures
from models.inference import enhanced, load_generator
from models.phantoms import head_and_neck_phantom
from models.simulate import COARSE_MVCT, simulated_mvct

FIELD_OF_VIEW_MM = 391.0
WEIGHTS = "mvct_to_kvct_headneck"


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(slices: int = 48, matrix: int = 256, rounds: int = 3) -> None:
    """Print medians and their ratio."""
    pixel_mm = FIELD_OF_VIEW_MM / matrix
    spacing = (3.0, pixel_mm, pixel_mm)
    rng = np.random.default_rng(7)
    truth = head_and_neck_phantom((slices, matrix, matrix), spacing, rng).hu_zyx
    before = simulated_mvct(truth, spacing, COARSE_MVCT, rng)
    model = load_generator(WEIGHTS)
    after = enhanced(model, before, spacing)
    network, gate = [], []
    for _ in range(rounds):
        network.append(seconds(lambda: enhanced(model, before, spacing)))
        gate.append(seconds(lambda: enhancement_measures(model, before, after, spacing)))
    ratio = float(np.median(np.array(gate) / np.array(network)))
    sys.stdout.write(
        f"{slices} slices of {matrix} x {matrix}, {rounds} rounds, {torch.get_num_threads()} threads, "
        f"{model.engine.described()}: network {np.median(network):.2f} s, findings {np.median(gate):.2f} s, "
        f"ratio {ratio:.2f}\n"
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
