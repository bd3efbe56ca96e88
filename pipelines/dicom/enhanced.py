"""Enhanced multi-frame images: one classic header for each frame, so that all later code knows only one form."""

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.dataset import FileDataset

from pipelines.dicom.attributes import FUNCTIONAL_GROUPS
from pipelines.dicom.elements import items
from pipelines.dicom.stack import functional_group

_FRAME_MACROS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "CTXRayDetailsSequence": ("KVP", "FilterType", "FocalSpots"),
    "CTExposureSequence": ("ExposureTimeInms", "XRayTubeCurrentInmA"),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
    "FrameAnatomySequence": (),
}
"""Functional group macro -> what it says that a classic header says too (PS3.3 C.7.6.16.2, C.8.15.3)."""


def frame_headers(image: FileDataset) -> tuple[Dataset, ...]:
    """The header of each frame of an image, as a classic single-frame image would have it; without pixel data."""
    base = _without(image, (*FUNCTIONAL_GROUPS, "NumberOfFrames", "PixelData"))
    frames = items(image, "PerFrameFunctionalGroupsSequence")
    if not frames:
        return (base,)
    shared = next(iter(items(image, "SharedFunctionalGroupsSequence")), Dataset())
    return tuple(_frame_header(base, frame, shared) for frame in frames)


def _without(image: Dataset, keywords: tuple[str, ...]) -> Dataset:
    kept = Dataset()
    for element in image:
        if element.keyword not in keywords:
            kept.add(element)
    return kept


def _frame_header(base: Dataset, frame: Dataset, shared: Dataset) -> Dataset:
    header = _without(base, ())
    for macro, keyword in _wanted():
        group = functional_group(macro, frame, shared)
        if keyword in group:
            header.add(group[keyword])
    return header


def _wanted() -> Iterator[tuple[str, str]]:
    return ((macro, keyword) for macro, keywords in _FRAME_MACROS.items() for keyword in keywords)
