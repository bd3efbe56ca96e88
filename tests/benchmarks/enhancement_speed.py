"""Seconds per slice of 512 x 512 and peak memory of every shipped enhancement model, on this machine's CPU.

python -m tests.benchmarks.enhancement_speed [slices]
"""

import resource
import sys
import time

import numpy as np
import torch

from models.inference import EnhancementModel, enhanced, load_generator
from models.weights import load_card, shipped

SPACING = (3.0, 1.0, 1.0)


def seconds_per_slice(model: EnhancementModel, slices: int) -> float:
    """Mean over the slices, after one slice to warm up."""
    hu = np.random.default_rng(0).normal(0.0, 100.0, (slices, 512, 512)).astype(np.float32)
    enhanced(model, hu[:1], SPACING)
    start = time.perf_counter()
    enhanced(model, hu, SPACING)
    return (time.perf_counter() - start) / slices


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0**2


def main(slices: int) -> None:
    """Print a table."""
    sys.stdout.write(f"{'model':<32}{'s / slice':>12}{'peak GiB':>12}{'threads':>10}\n")
    for name in shipped():
        if load_card(name).method != "cyclegan":
            continue
        seconds = seconds_per_slice(load_generator(name), slices)
        sys.stdout.write(f"{name:<32}{seconds:>12.3f}{peak_memory_gib():>12.2f}{torch.get_num_threads():>10}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
