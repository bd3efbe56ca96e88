"""DICOM Segmentations to masks on the grid of an image series; what does not lie on that grid is refused.

References
----------
PS3.3 C.8.20.2 Segmentation Image, C.7.6.16 Multi-frame Functional Groups; PS3.5 8.1.1 bits from the least significant
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import SegmentationStorage

from pipelines.base import InputRejected
from pipelines.dicom.elements import items, numbers, text, whole_number
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.reading import read_instance, transfer_syntax
from pipelines.dicom.volume import Volume

SAME_VOXEL_MM = 0.02
"""How far a pixel may lie from the one of the images that it stands for: writers round to a few digits."""
FARTHEST_MM = 1e5
"""No slice lies farther from the origin; a larger number is broken and would only overflow."""
MAX_SEGMENTS = 1000
"""More are a broken or hostile header; a segment costs the memory of a mask."""
OFF_GRID = "The segmentation does not lie on the grid of the images"

_READ = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SpecificCharacterSet",
    "FrameOfReferenceUID",
    "SegmentationType",
    "SegmentSequence",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True)
class SegmentMasks:
    """The segments of a Segmentation on the grid of the images."""

    sop_instance_uid: str
    masks: Mapping[str, NDArray[np.bool_]]
    """By Segment Label, in the order of the file; a segment without a frame is there and empty."""


def read_segmentation(path: Path, series: ImageSeries) -> SegmentMasks:
    """Read a binary Segmentation that was made on the grid of `series`.

    Nothing is resampled: a frame has to lie, pixel by pixel, on a slice of the images.

    Raises
    ------
    InputRejected
        If the file is broken, is no binary Segmentation or is compressed; if its Frame of Reference is another one or a
        frame does not lie on the grid; if two segments have one label, or a frame is of no known segment.
    """
    dataset = read_instance(path, _READ, pixels=True)
    if text(dataset, "SOPClassUID") != SegmentationStorage:
        raise InputRejected("A file is not a Segmentation")
    if text(dataset, "FrameOfReferenceUID") != series.frame_of_reference_uid:
        raise InputRejected("The segmentation and the images have different Frames of Reference")
    labels = _labels(dataset)
    masks = {number: np.zeros(series.volume.array_zyx.shape, dtype=np.bool_) for number in labels}
    groups = _groups(dataset)
    planes = _planes(dataset, len(groups), series.volume)
    for (number, index), plane in zip(_places(groups, series.volume), planes, strict=True):
        if number not in masks:
            raise InputRejected("The segmentation has a frame of a segment that it does not describe")
        masks[number][index] |= plane
    return SegmentMasks(text(dataset, "SOPInstanceUID"), {label: masks[number] for number, label in labels.items()})


def _labels(dataset: Dataset) -> dict[int, str]:
    """Segment Label by Segment Number."""
    described = items(dataset, "SegmentSequence")
    if not 0 < len(described) <= MAX_SEGMENTS:
        raise InputRejected(f"The segmentation describes {len(described)} segments")
    labels: dict[int, str] = {}
    for item in described:
        number, label = whole_number(item, "SegmentNumber"), text(item, "SegmentLabel")
        if number is None or not label or number in labels:
            raise InputRejected("The segmentation has a segment without a number or label of its own")
        labels[number] = label
    if len(set(labels.values())) < len(labels):
        raise InputRejected("The segmentation has two segments of one label")
    return labels


def _groups(dataset: Dataset) -> list[tuple[Dataset, Dataset]]:
    """Functional groups of each frame: its own and the shared ones."""
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not frames or len(frames) != whole_number(dataset, "NumberOfFrames"):
        raise InputRejected("The segmentation does not say where each of its frames lies")
    return [(frame, shared[0] if shared else Dataset()) for frame in frames]


def _planes(dataset: FileDataset, frames: int, volume: Volume) -> Iterator[NDArray[np.bool_]]:
    """The frames one after another: all of them at once would take eight times the memory of the file."""
    _, rows, columns = volume.array_zyx.shape
    if (whole_number(dataset, "Rows"), whole_number(dataset, "Columns")) != (rows, columns):
        raise InputRejected(OFF_GRID)
    if text(dataset, "SegmentationType") != "BINARY" or whole_number(dataset, "BitsAllocated") != 1:
        raise InputRejected("The segmentation is not binary")
    syntax = transfer_syntax(dataset)
    if not syntax.is_transfer_syntax or syntax.is_encapsulated or not syntax.is_little_endian:
        raise InputRejected("The pixels of the segmentation are compressed")
    content = dataset.get("PixelData")
    if not isinstance(content, bytes) or len(content) * 8 < frames * rows * columns:
        raise InputRejected("The segmentation has fewer pixels than it announces")
    packed, pixels = np.frombuffer(content, dtype=np.uint8), rows * columns
    for first in range(0, frames * pixels, pixels):
        # A frame may begin within a byte.
        bits = np.unpackbits(packed[first // 8 : (first + pixels + 7) // 8], bitorder="little")
        yield bits[first % 8 : first % 8 + pixels].reshape(rows, columns).astype(np.bool_)


def _places(groups: list[tuple[Dataset, Dataset]], volume: Volume) -> Iterator[tuple[int | None, int]]:
    """Segment Number and slice index of each frame."""
    for group in groups:
        segment = _macro(group, "SegmentIdentificationSequence")
        yield whole_number(segment, "ReferencedSegmentNumber"), _slice_index(group, volume)


def _slice_index(group: tuple[Dataset, Dataset], volume: Volume) -> int:
    position = numbers(_macro(group, "PlanePositionSequence"), "ImagePositionPatient", 3)
    orientation = numbers(_macro(group, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = numbers(_macro(group, "PixelMeasuresSequence"), "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        raise InputRejected("The segmentation does not say where each of its frames lies")
    if max(map(abs, (*position, *orientation, *spacing))) > FARTHEST_MM:
        raise InputRejected(OFF_GRID)
    slices, rows, columns = volume.array_zyx.shape
    index = round(float(volume.indices_xyz(np.array([position]))[0, 2].clip(-1, slices)))
    corners = np.array([[0, 0], [columns - 1, 0], [0, rows - 1]], dtype=np.float64)
    steps = np.array([np.array(orientation[:3]) * spacing[1], np.array(orientation[3:]) * spacing[0]])
    wanted = volume.points_lps(np.column_stack([corners, np.full(3, index)]))
    if not 0 <= index < slices or not np.abs(corners @ steps + position - wanted).max() <= SAME_VOXEL_MM:
        raise InputRejected(OFF_GRID)
    return index


def _macro(group: tuple[Dataset, Dataset], keyword: str) -> Dataset:
    """The only item of a functional group, which a frame has for itself or shares with all."""
    found = items(group[0], keyword) or items(group[1], keyword)
    return found[0] if found else Dataset()
