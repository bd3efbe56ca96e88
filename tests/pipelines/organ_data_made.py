"""Training data with organs, small: OpenKBP and plain `.npz` files, and CT series with their structure sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.organ_volumes import HEAD_AND_NECK_ORGANS
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.writing import file_bytes
from tests.models.training.organ_phantoms import SPACING, patient
from tests.pipelines.made import AXIAL, changed, oriented_series, write

SHAPE = (6, 16, 20)
PIXEL_MM = 2.0
LEARNT = ("Parotid_L", "Parotid_R")
"""Of the phantoms in the files of OpenKBP."""


def block(start: int, stop: int) -> NDArray[np.bool_]:
    """Columns from `start` to `stop` of a few slices and rows."""
    mask = np.zeros(SHAPE, np.bool_)
    mask[1:3, 2:9, start:stop] = True
    return mask


def ct_below(
    folder: Path, number: int, orientation: Sequence[float] = AXIAL, stored: NDArray[Any] | None = None, **changes: Any
) -> ImageSeries:
    """The CT of one patient, with square pixels; voxels outside of a block of water are air."""
    hu = np.full(SHAPE, -1000, np.int16) if stored is None else stored
    series = oriented_series(hu, orientation, (0.0, 0.0, 0.0))
    own = {"SeriesInstanceUID": f"1.2.{number}.2", "FrameOfReferenceUID": f"1.2.{number}.3", "PatientID": f"P{number}"}
    for index, one in enumerate(series):
        changed(one, PixelSpacing=[PIXEL_MM, PIXEL_MM], SOPInstanceUID=f"1.2.{number}.4.{index}", **own, **changes)
    (folder / f"ct{number}").mkdir(parents=True)
    return read_image_series(write(series, folder / f"ct{number}"))


def drawn_on(
    images: ImageSeries, regions: Mapping[str, NDArray[np.bool_]], path: Path, number: int = 1, **changes: Any
) -> Path:
    """A structure set of these regions, by ROI Name."""
    new = NewInstance(f"1.2.9.{number}", f"1.2.8.{number}", 2, "Drawn", "TPS")
    dataset = structure_set(images, [Roi(name, mask) for name, mask in regions.items()], "DRAWN", new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_bytes(changed(dataset, **changes)))
    return path


def openkbp(folder: Path, number: int) -> Path:
    """A phantom as OpenKBP stores it; its number says which split it is of."""
    one = patient(number, None)
    struct = np.zeros(one.labels_zyx.shape, np.uint16)
    for bit, organ in enumerate(HEAD_AND_NECK_ORGANS):
        if organ in one.organs:
            struct |= (one.masks()[organ].astype(np.uint16)) << bit
    ct = (one.volume.hu_zyx + 1024).clip(0).astype(np.int16)
    folder.mkdir(exist_ok=True)
    path = folder / f"pt_{number}.npz"
    np.savez(path, ct=as_stored(ct), voxel_mm=np.array(SPACING), struct=as_stored(struct))
    return path


def as_stored(canonical_zyx: NDArray[Any]) -> NDArray[Any]:
    """[row, column, slice from the head down]."""
    return canonical_zyx[::-1].transpose(1, 2, 0)
