"""Seconds and peak memory of organ masks to a Segmentation and a structure set and back, on a series of usual size.

python -m tests.benchmarks.organ_objects [slices] [matrix] [organs]

The organs are ellipsoids that lie apart, with one hollow and one ragged among them, as networks leave them.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import Labelling
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.structure_set import masks, read_structure_set
from pipelines.dicom.structure_set_writing import organ_structure_set
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import file_bytes
from pipelines.provenance import Provenance
from tests.pipelines.made import ct_slice

T = TypeVar("T")


def series(slices: int, matrix: int) -> ImageSeries:
    """Headers of a made-up CT of 500 mm, with no values: nothing here looks at them."""
    pixel_mm = 500.0 / matrix
    headers: list[Dataset] = []
    for index in range(slices):
        header = ct_slice(np.zeros((1, 1), dtype=np.int16), index)
        header.Rows, header.Columns, header.PixelSpacing = matrix, matrix, [f"{pixel_mm:.6f}"] * 2
        headers.append(header)
    affine = np.diag([round(pixel_mm, 6), round(pixel_mm, 6), 3.0, 1.0])
    affine[:3, 3] = headers[0].ImagePositionPatient
    values = np.zeros((slices, matrix, matrix), dtype=np.float32)
    return ImageSeries("CT", Volume(values, affine), values.astype(np.bool_), tuple(headers))


def organs(shape: tuple[int, int, int], count: int) -> dict[str, NDArray[np.bool_]]:
    """Ellipsoids in a row."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    rng, made = np.random.default_rng(3), {}
    radius = shape[2] / (2 * count + 2)
    for number in range(count):
        centre = (number + 1) * shape[2] / (count + 1)
        distance = ((z / shape[0] - 0.5) * 2.5) ** 2 + ((y / shape[1] - 0.5) * 4) ** 2 + ((x - centre) / radius) ** 2
        made[f"Organ {number + 1}"] = distance < 1
        if number == 0:
            made["Organ 1"] &= distance > 0.3
        elif number == 1:
            made["Organ 2"] = distance + 0.05 * rng.random(shape) < 1
    return made


def timed(what: str, work: Callable[[], T]) -> T:
    """What the work returns, after a line about it."""
    begin = time.perf_counter()
    result = work()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{what:<28}{time.perf_counter() - begin:>8.2f} s   peak so far {peak_mib:>6.0f} MiB\n")
    return result


def main(slices: int = 24, matrix: int = 256, count: int = 6) -> None:
    """Print a line for each step."""
    source, drawn = series(slices, matrix), organs((slices, matrix, matrix), count)
    origin = Provenance("benchmark", "0" * 64, (), Labelling(), (), "0")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "object.dcm"
        made = timed("masks to Segmentation", lambda: segmentation(source, drawn, origin, "Organs").dataset)
        path.write_bytes(timed("Segmentation to file", lambda: file_bytes(made)))
        timed("Segmentation to masks", lambda: read_segmentation(path, source))
        made = timed("masks to structure set", lambda: organ_structure_set(source, drawn, origin, "Organs").dataset)
        path.write_bytes(timed("structure set to file", lambda: file_bytes(made)))
        timed("structure set to masks", lambda: masks(read_structure_set(path), source))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
