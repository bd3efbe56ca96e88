"""What a reader will find in new objects of organs: they are read again and compared with what was to be written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from models.limits import Limits
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.organs import organ_named
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.structure_set import read_structure_set, roi_masks
from pipelines.dicom.writing import file_bytes
from pipelines.stability import Finding, judged

LIMITS = Limits(flag_above=0.0, hold_above=2.0)
"""Policy: both kinds of object give back the very voxels; 2 % is what planning systems differ by among themselves."""

_NAMES: Mapping[str, str] = {SegmentationStorage: "Segmentation", RTStructureSetStorage: "RT Structure Set"}


def read_back_findings(
    source: ImageSeries, masks: Mapping[str, NDArray[np.bool_]], datasets: Sequence[Dataset]
) -> Iterator[Finding]:
    """One finding for each object: the largest part by which a region differs, in voxels, from what was found.

    Parameters
    ----------
    source
        The images that the organs were found in.
    masks
        By name; those without a voxel are in no object.
    datasets
        Segmentations and RT Structure Sets of the masks.

    Raises
    ------
    InputRejected
        If an object can not be read.
    """
    written = {organ_named(name).name: mask for name, mask in masks.items() if mask.any()}
    with TemporaryDirectory() as folder:
        for dataset in datasets:
            path = Path(folder) / "object.dcm"
            path.write_bytes(file_bytes(dataset))
            name = _NAMES[dataset.SOPClassUID]
            different = _largest_difference_percent(written, _READERS[dataset.SOPClassUID](path, source))
            finding = f"{name.lower().replace(' ', '_')}_difference_percent"
            yield judged(
                finding, different, "%", LIMITS, f"{name} read again, differing voxels of the worst organ in %"
            )


def _segments(path: Path, source: ImageSeries) -> Mapping[str, NDArray[np.bool_]]:
    return read_segmentation(path, source).masks


def _regions(path: Path, source: ImageSeries) -> Mapping[str, NDArray[np.bool_]]:
    return roi_masks(read_structure_set(path), source).masks


_READERS: Mapping[str, Callable[[Path, ImageSeries], Mapping[str, NDArray[np.bool_]]]] = {
    SegmentationStorage: _segments,
    RTStructureSetStorage: _regions,
}


def _largest_difference_percent(
    written: Mapping[str, NDArray[np.bool_]], read: Mapping[str, NDArray[np.bool_]]
) -> float:  # fmt: skip
    """In percent of the organ; 100 for one that is absent, and where there is one that nobody wrote."""
    if set(read) - set(written):
        return 100.0
    parts = [
        float((mask ^ read[name]).sum()) / float(mask.sum()) if name in read else 1.0 for name, mask in written.items()
    ]
    return 100.0 * max(parts)
