"""Seconds per slice of every engine and of both ways to run it, and how far each is from plain torch in float32.

python -m tests.benchmarks.enhancement_speed [slices] [matrix] [rounds]

Plain torch computes every slice whole with channels first; `whole` computes every slice whole, `box` only the part that
the result needs. All take turns on every slice, so a busy machine slows all of them down alike: read the ratios.
Threads are those of OMP_NUM_THREADS. The images are simulated MVCT of the head-and-neck and the pelvis phantom.
"""

import copy
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from models.engines import Engine, made_engine, offered_engines
from models.inference import METHODS, EnhancementModel, enhanced, load_generator
from models.intensity import Hu
from models.phantoms import head_and_neck_phantom, pelvis_phantom
from models.simulate import MvctSettings, simulated_mvct
from models.weights import shipped

FIELD_OF_VIEW_MM = 391.0
"""Of the MVCT of a TomoTherapy unit."""
PLAIN = "plain torch-f32"


@dataclass
class Measured:
    """What one way to compute took and made, over all slices and rounds."""

    seconds: list[float] = field(default_factory=list)
    differences_hu: list[Hu] = field(default_factory=list)
    """Absolute differences to plain torch inside the window."""

    def row(self, name: str, plain: "Measured") -> str:
        """One line of the table; the ratio is the median over pairs of neighbours in time."""
        took, differences = np.array(self.seconds), np.concatenate(self.differences_hu)
        ratio = np.median(np.array(plain.seconds) / took)
        times = "".join(f"{value:>9.4f}" for value in (np.median(took), took.min(), took.max()))
        return f"{name:<24}{times}{ratio:>8.1f}{differences.mean():>12.5f}{differences.max():>10.4f}\n"


def mvct_slices(slices: int, matrix: int) -> Hu:
    """Simulated MVCT, from the shoulders to the eyes and, the last quarter of the slices, through the pelvis."""
    pixel_mm = FIELD_OF_VIEW_MM / matrix
    pelves = slices // 4
    spacing = (200.0 / max(1, slices - pelves), pixel_mm, pixel_mm)
    bodies = [head_and_neck_phantom((slices - pelves, matrix, matrix), spacing, np.random.default_rng(7)).hu_zyx]
    if pelves:
        spacing = (15.0, pixel_mm, pixel_mm)
        bodies.append(pelvis_phantom((pelves, matrix, matrix), spacing, np.random.default_rng(9)).hu_zyx)
    hu_zyx = np.concatenate(bodies)
    return simulated_mvct(hu_zyx, spacing, MvctSettings(), np.random.default_rng(8))


def ways(model: EnhancementModel) -> Mapping[str, EnhancementModel]:
    """Plain torch first, then every offered engine on whole slices and on boxes."""
    contiguous = copy.deepcopy(model.generator).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    plain = replace(model, engine=Engine(PLAIN, contiguous), reach_pixels=None)
    found = {PLAIN: plain}
    for described in offered_engines():
        name = described.split()[0]
        boxed = replace(model, engine=made_engine(name, model.generator))
        found |= {f"{name} whole": replace(boxed, reach_pixels=None), f"{name} box": boxed}
    return found


def measured(model: EnhancementModel, hu_zyx: Hu, rounds: int) -> Mapping[str, Measured]:
    """Every way on every slice, in turn, after one slice each to warm up."""
    pixel_mm = FIELD_OF_VIEW_MM / hu_zyx.shape[1]
    spacing = (3.0, pixel_mm, pixel_mm)
    found = {name: (way, Measured()) for name, way in ways(model).items()}
    for way, _ in found.values():
        enhanced(way, hu_zyx[:1], spacing)
    for index in list(range(len(hu_zyx))) * rounds:
        hu = hu_zyx[index : index + 1]
        inside = (hu > model.card.window_hu[0]) & (hu < model.card.window_hu[1])
        expected = hu
        for name, (way, result) in found.items():
            start = time.perf_counter()
            made = enhanced(way, hu, spacing)
            result.seconds.append(time.perf_counter() - start)
            expected = made if name == PLAIN else expected
            result.differences_hu.append(np.abs(made - expected)[inside])
    return {name: result for name, (_, result) in found.items()}


def table(results: Mapping[str, Measured]) -> str:
    """One line for each way."""
    head = f"{'engine':<24}{'s/slice':>9}{'min':>9}{'max':>9}{'ratio':>8}{'mean HU':>12}{'max HU':>10}\n"
    return head + "".join(result.row(name, results[PLAIN]) for name, result in results.items())


def main(slices: int = 8, matrix: int = 512, rounds: int = 2) -> None:
    """Print a table for every shipped network."""
    hu_zyx = mvct_slices(slices, matrix)
    for name in shipped(METHODS):
        model = load_generator(name)
        size = f"{slices} slices of {matrix} x {matrix}, {rounds} rounds, {torch.get_num_threads()} threads"
        sys.stdout.write(f"{name}: {size}; used by default: {model.engine.described()}\n")
        sys.stdout.write(table(measured(model, hu_zyx, rounds)))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
