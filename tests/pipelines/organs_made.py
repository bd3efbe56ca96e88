"""Organs by arithmetic on small CT series in every position of the patient, and the work that found them."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import Labelling
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.writing import file_bytes
from pipelines.provenance import Provenance
from tests.pipelines.made import AXIAL, oriented_series, ramp, write

WEIGHTS = "0123456789abcdef" * 4
ORIGIN = Provenance("segment_headneck", "a" * 64, (WEIGHTS,), Labelling(), ("1.2.3", "1.2.4"), "0.1.0")
NEW = NewInstance("1.2.3.1", "1.2.3.2", 2, "Test", "Maker")
SHAPE = (5, 16, 20)
POSITIONS: dict[str, tuple[float, ...]] = {
    "HFS": AXIAL,
    "HFP": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "FFS": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "FFP": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "HFDR": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0),
}
"""Image Orientation (Patient) as scanners write it for each Patient Position; row and column spacing differ."""
ORIGIN_LPS = (-10.0, -20.0, -30.0)
"""Centre of the first pixel of the first slice, in mm."""


def images(folder: Path, position: str = "HFS", **changes: object) -> ImageSeries:
    """A series of five slices of 16 x 20 pixels, 3 x 2 x 1.5 mm."""
    datasets = oriented_series(ramp(*SHAPE), POSITIONS[position], ORIGIN_LPS)
    for dataset in datasets:
        dataset.PatientPosition = position
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return read_image_series(write(datasets, folder))


def ball(center: tuple[float, float, float] = (2, 8, 9), radius: float = 6.0) -> NDArray[np.bool_]:
    z, y, x = np.mgrid[:5, :16, :20]
    return np.asarray((((z - center[0]) * 3) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2) <= radius**2)


def organ_masks() -> dict[str, NDArray[np.bool_]]:
    """Round, hollow, in two parts, one pixel thin, one pixel small, cut off by the image; the brainstem is empty."""
    thin = np.zeros(SHAPE, dtype=np.bool_)
    thin[1, 3, 2:15] = thin[1, 3:12, 14] = True
    thin[2, [4, 5, 6, 7], [4, 5, 6, 7]] = True
    thin[3, 9, 9] = True
    return {
        "Bladder": ball(),
        "Rectum": ball() & ~ball(radius=3.0),
        "Parotid_L": ball((1, 4, 4), 3) | ball((3, 11, 15), 4),
        "Parotid_R": ball((2, 0, 0), 5),
        "SpinalCord": thin,
        "Brainstem": np.zeros(SHAPE, dtype=np.bool_),
        "Bowel_Loop_7": ~ball(),
    }


def written(dataset: Dataset, folder: Path) -> Path:
    """The dataset as a file."""
    path = folder / f"{dataset.Modality}.dcm"
    path.write_bytes(file_bytes(dataset))
    return path


def write_quietly(datasets: list[Dataset], folder: Path) -> list[Path]:
    """Files of datasets that break the standard, about which pydicom warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return write(datasets, folder)
