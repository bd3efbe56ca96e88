"""CPU seconds per slice and memory of the projector and of every classical reconstruction, for fewer and fewer views.

python -m tests.benchmarks.projection_speed [pixels] [views] [rounds]

First the sparse product by scipy and by torch, in turns, for one slice and for several: read the ratio. Then, for all
views, 1/5, 1/10 and 1/20 of them, what one slice takes, alone and among several; of iterative methods, a tenth of ten
iterations with what they prepare once. Processor time is steadier than the clock on a busy machine; with
OMP_NUM_THREADS=1 it is about what an idle one takes. A fan beam on an arc scans the pelvis phantom.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from models import fbp
from models.iterative import Iterations, inverse_variances, ordered_subsets, sirt, view_subsets
from models.phantoms import pelvis_phantom
from models.projector import joseph_matrix
from models.scan_geometry import FanBeam, ImageGrid, ScanGeometry, full_turn
from models.scan_projector import ScanProjector, shared_tensor
from models.tv_reconstruction import tv_reconstructed

FIELD_OF_VIEW_MM = 400.0
WATER_PER_MM = 0.02
PHOTONS = 3e5
SLICES = 8
ITERATIONS = 10
SHARES = (1, 5, 10, 20)
"""One by the share of the views."""

Array = NDArray[np.float32]


def fan_scan(pixels: int, views: int) -> ScanGeometry:
    """Elements one pixel apart at the isocenter, enough for the corners of the image."""
    fan, pixel_mm = FanBeam(source_isocenter_mm=850.0, source_detector_mm=1400.0), FIELD_OF_VIEW_MM / pixels
    detector_mm = pixel_mm * fan.source_detector_mm / fan.source_isocenter_mm
    grid = ImageGrid(pixels, pixels, pixel_mm)
    return ScanGeometry(grid, full_turn(views), int(1.5 * pixels), detector_mm, fan=fan)


def attenuation(pixels: int) -> Array:
    """Pelvis phantom: (slice, row, column), 1/mm."""
    spacing = (10.0, FIELD_OF_VIEW_MM / pixels, FIELD_OF_VIEW_MM / pixels)
    hu = pelvis_phantom((SLICES, pixels, pixels), spacing, np.random.default_rng(7)).hu_zyx
    return np.asarray(np.maximum(WATER_PER_MM * (1.0 + hu / 1000.0), 0.0), np.float32)


def measured(projector: ScanProjector, images: Array) -> tuple[Array, Array]:
    """Line integrals with noise, and 1 / variance."""
    expected = PHOTONS * np.exp(-projector.forward(images).astype(np.float64))
    rays = -np.log(np.maximum(np.random.default_rng(8).poisson(expected), 1) / PHOTONS)
    return rays.astype(np.float32), inverse_variances(rays, PHOTONS)


def least_seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> Mapping[str, float]:
    """Least processor time of each, all in turns."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            least[name] = min(least[name], time.process_time() - start)
    return least


def product_rows(pixels: int, views: int, rounds: int) -> Iterator[str]:
    """A x and A' y by scipy and by torch."""
    geometry = fan_scan(pixels, views)
    matrix = joseph_matrix(geometry.grid, *geometry.lines())
    yield f"{'product, ' + str(views) + ' views':<24}{'slices':>8}{'scipy ms':>10}{'torch ms':>10}{'ratio':>8}\n"
    for name, part in {"A x": matrix, "A' y": sparse.csr_array(matrix.T.tocsr())}.items():
        tensor = shared_tensor(part)
        for slices in (1, 2, SLICES):
            columns = np.random.default_rng(0).random((part.shape[1], slices), np.float32)
            both = torch.from_numpy(columns)
            calls = {"scipy": lambda a=part, x=columns: a @ x, "torch": lambda a=tensor, x=both: a @ x}
            took = least_seconds(calls, rounds)
            times = "".join(f"{1e3 * seconds:>10.2f}" for seconds in took.values())
            yield f"{name:<24}{slices:>8}{times}{took['scipy'] / took['torch']:>8.2f}\n"


def methods(projector: ScanProjector, rays: Array, variances: Array) -> Mapping[str, Callable[[], object]]:
    """What is timed."""
    subsets = view_subsets(projector, min(8, projector.geometry.views))
    some = Iterations(ITERATIONS)
    images = projector.adjoint(rays)
    return {
        "A x": lambda: projector.forward(images),
        "A' y": lambda: projector.adjoint(rays),
        "fbp": lambda: fbp.reconstructed(rays, projector.geometry),
        "sirt": lambda: sirt(projector, rays, some, variances),
        "os-sart": lambda: ordered_subsets(subsets, rays, some),
        "tv": lambda: tv_reconstructed(projector, rays, variances, 1500.0, some, start=images),
    }


def scan_rows(pixels: int, views: int, rounds: int) -> Iterator[str]:
    """One number of views: build, memory, and seconds per slice of every method; one slice, then several."""
    start = time.process_time()
    projector = ScanProjector(fan_scan(pixels, views))
    head = f"{time.process_time() - start:>9.2f}{projector.memory_bytes / 2**20:>9.0f}"
    rays, variances = measured(projector, attenuation(pixels))
    for slices in (1, SLICES):
        took = least_seconds(methods(projector, rays[:slices], variances[:slices]), rounds)
        each = {name: seconds / slices for name, seconds in took.items()}
        each |= {name: each[name] / ITERATIONS for name in ("sirt", "os-sart", "tv")}
        times = "".join(f"{seconds:>9.4f}" for seconds in each.values())
        yield f"{views:<7}{slices:>7}{head}{times}\n"


def all_scan_rows(pixels: int, views: int, rounds: int) -> Iterator[str]:
    """Fewer and fewer views."""
    names = "".join(f"{name:>9}" for name in ("A x", "A' y", "fbp", "sirt/it", "os/it", "tv/it"))
    yield f"{'views':<7}{'slices':>7}{'build s':>9}{'MiB':>9}{names}\n"
    for share in SHARES:
        yield from scan_rows(pixels, max(1, views // share), rounds)


def main(pixels: int = 256, views: int = 800, rounds: int = 2) -> None:
    """Print both tables, line by line as they are measured."""
    sys.stdout.write(f"{pixels} x {pixels}, {torch.get_num_threads()} threads, CPU seconds per slice\n")
    for rows in (product_rows(pixels, max(1, views // 10), rounds + 3), all_scan_rows(pixels, views, rounds)):
        for row in rows:
            sys.stdout.write(row)
            sys.stdout.flush()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
