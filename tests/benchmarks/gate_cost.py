"""Seconds of the findings of an enhancement against those of the network and of the whole pipeline, side by side.

python -m tests.benchmarks.gate_cost [slices] [matrix] [rounds]

The pipeline reads and writes the MVCT of a made-up patient as DICOM; its own time is that of its run without the
findings. All take turns, so a busy machine slows them down alike: read the ratios, which are medians over rounds.
Threads are those of OMP_NUM_THREADS.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from models.enhancement_measures import enhancement_measures
from models.inference import enhanced, load_generator
from models.intensity import AIR_HU
from pipelines.base import Inputs, InputSeries, Labelling
from pipelines.dicom.image_series import read_image_series
from pipelines.enhancement import Enhancement
from pipelines.phantom_study import Kind, PhantomSize, write_phantom

WEIGHTS = "mvct_to_kvct_headneck"


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(slices: int = 48, matrix: int = 256, rounds: int = 3) -> None:
    """Print medians and their ratios."""
    with TemporaryDirectory() as folder:
        size = PhantomSize(matrix=matrix, slices=slices, fractions=1)
        write_phantom(Kind.HEADNECK, Path(folder), size=size)
        measured(sorted((Path(folder) / "fraction_01").glob("*.dcm")), rounds)


def measured(paths: list[Path], rounds: int) -> None:
    """The same for one series."""
    pipeline, model = Enhancement(name="enhance", weights=WEIGHTS), load_generator(WEIGHTS)
    inputs = Inputs(InputSeries("mvct", "1.2.3", tuple(paths)), labelling=Labelling())
    source = read_image_series(inputs.trigger.paths)
    before, spacing = source.filled_zyx(AIR_HU), source.volume.spacing_zyx_mm
    after = enhanced(model, before, spacing)
    network, whole, gate = [], [], []
    for _ in range(rounds):
        network.append(seconds(lambda: enhanced(model, before, spacing)))
        gate.append(seconds(lambda: enhancement_measures(model, before, after, spacing)))
        whole.append(seconds(lambda: pipeline.run(inputs)))
    findings, of_network = np.array(gate), np.array(network)
    own = np.array(whole) - findings
    sys.stdout.write(
        f"{before.shape} voxels, {rounds} rounds, {torch.get_num_threads()} threads, {model.engine.described()}: "
        f"network {np.median(of_network):.2f} s, pipeline without findings {np.median(own):.2f} s, findings "
        f"{np.median(findings):.2f} s; findings to network {np.median(findings / of_network):.2f}, to pipeline "
        f"{np.median(findings / own):.2f}\n"
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
