"""RT Structure Sets: masks on an image series to closed planar contours, and contours to masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from pipelines.base import InputRejected
from pipelines.dicom.companion import (
    NewInstance,
    acquisition_date,
    companion,
    decimal_strings,
    image_reference,
    put_frame_of_reference,
    reference,
)
from pipelines.dicom.contours import filled, outlines
from pipelines.dicom.elements import MALFORMED, items, text, whole_number
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.reading import read_instance
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import put

PLANAR_TOLERANCE_MM = 0.5
"""How far the points of one contour may leave their common slice plane."""
SAME_PLANE_MM = 0.05
"""Contours nearer than this lie in one plane."""
ROI_NAME_LENGTH = 64
"""VR LO; some planning systems cut a name after 16 characters."""
CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""Retired SOP Class that a structure set still names the study by (PS3.3 C.8.8.5)."""


@dataclass(frozen=True)
class Roi:
    """A region as a mask, to be written."""

    name: str
    """TG-263 name."""
    mask_zyx: NDArray[np.bool_]
    """On the grid of the image series."""
    interpreted_type: str = "ORGAN"
    """RT ROI Interpreted Type: ORGAN, EXTERNAL, GTV, CTV, PTV, AVOIDANCE ... (PS3.3 C.8.8.8)."""
    colour: tuple[int, int, int] = (255, 255, 0)
    """Red, green, blue, 0 to 255."""


@dataclass(frozen=True)
class RoiContours:
    """A region as it was read."""

    number: int
    name: str
    interpreted_type: str
    contours_lps: tuple[NDArray[np.float64], ...]
    """Closed planar contours, each (n, 3) in LPS mm."""


@dataclass(frozen=True)
class StructureSet:
    """The regions of an RT Structure Set, and what they are drawn on."""

    sop_instance_uid: str
    frame_of_reference_uid: str
    series_instance_uid: str
    """Of the images; empty where the file does not say it."""
    rois: tuple[RoiContours, ...]


def structure_set(source: ImageSeries, rois: Sequence[Roi], label: str, new: NewInstance) -> Dataset:
    """An unapproved RT Structure Set on the slices of `source`.

    Contours run half way between pixel centres, so that `masks` gives back exactly what went in; holes are keyholes;
    every contour names its image. An empty mask is written as an ROI without contours.

    References
    ----------
    PS3.3 A.19 RT Structure Set IOD
    """
    dataset = companion(source.header, new, RTStructureSetStorage, "RTSTRUCT")
    put_frame_of_reference(dataset, source.header)
    put(dataset, "StructureSetLabel", label[:16])
    date, time = acquisition_date(source.header)
    put(dataset, "StructureSetDate", date)
    put(dataset, "StructureSetTime", time)
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame_of_reference(source)]
    numbered = list(enumerate(rois, start=1))
    uid = source.frame_of_reference_uid
    dataset.StructureSetROISequence = [_definition(roi, number, uid) for number, roi in numbered]
    dataset.ROIContourSequence = [_roi_contour(roi, number, source) for number, roi in numbered]
    dataset.RTROIObservationsSequence = [_observation(roi, number) for number, roi in numbered]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def read_structure_set(path: Path) -> StructureSet:
    """Read an RT Structure Set.

    Raises
    ------
    InputRejected
        If the file is broken, is no structure set, is drawn in more than one Frame of Reference, or has a contour
        that is no list of points.
    """
    dataset = read_instance(path, _READ)
    if text(dataset, "SOPClassUID") != RTStructureSetStorage:
        raise InputRejected("A file is not an RT Structure Set")
    contours = {whole_number(item, "ReferencedROINumber"): item for item in items(dataset, "ROIContourSequence")}
    types = {
        whole_number(item, "ReferencedROINumber"): text(item, "RTROIInterpretedType")
        for item in items(dataset, "RTROIObservationsSequence")
    }
    definitions = items(dataset, "StructureSetROISequence")
    return StructureSet(
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        frame_of_reference_uid=_frame_of_reference_uid(dataset, definitions),
        series_instance_uid=_referenced_series(dataset),
        rois=tuple(_read_roi(item, contours, types) for item in definitions),
    )


def masks(structures: StructureSet, series: ImageSeries) -> Mapping[str, NDArray[np.bool_]]:
    """Masks of all regions that have contours, by ROI Name, on the grid of `series`.

    Where contours are further apart than slices, a slice takes the nearest one within half their distance.

    Raises
    ------
    InputRejected
        If the Frames of Reference differ, two regions have one name, or a contour does not lie in a slice plane.
    """
    if structures.frame_of_reference_uid != series.frame_of_reference_uid:
        raise InputRejected("The structure set and the images have different Frames of Reference")
    drawn = [roi for roi in structures.rois if roi.contours_lps]
    if len({roi.name for roi in drawn}) < len(drawn):
        raise InputRejected("The structure set has two regions of one name")
    return {roi.name: mask_of(roi.contours_lps, series.volume) for roi in drawn}


def mask_of(contours_lps: Iterable[NDArray[np.float64]], volume: Volume) -> NDArray[np.bool_]:
    """Voxels of the volume whose centre lies inside the closed contours; errors as in `masks`."""
    planes = _planes([volume.indices_xyz(contour) for contour in contours_lps], volume.spacing_zyx_mm[0])
    mask = np.zeros(volume.array_zyx.shape, dtype=np.bool_)
    if not planes:
        return mask
    positions = np.array(sorted(planes))
    reach = max(1.0, float(np.median(np.diff(positions))) if len(positions) > 1 else 1.0) / 2 + 1e-3
    for index, plane in enumerate(mask):
        nearest = float(positions[np.abs(positions - index).argmin()])
        if abs(nearest - index) <= reach:
            plane[:] = filled(planes[nearest], plane.shape)
    return mask


_READ = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SpecificCharacterSet",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
    "ROIContourSequence",
    "RTROIObservationsSequence",
)


def _referenced_frame_of_reference(source: ImageSeries) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.series_instance_uid
    series.ContourImageSequence = [image_reference(header) for header in source.headers]
    study = reference(DETACHED_STUDY_MANAGEMENT, source.header.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = source.frame_of_reference_uid
    item.RTReferencedStudySequence = [study]
    return item


def _definition(roi: Roi, number: int, frame_of_reference_uid: str) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    put(item, "ROIName", roi.name[:ROI_NAME_LENGTH])
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    return item


def _observation(roi: Roi, number: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = roi.interpreted_type
    put(item, "ROIInterpreter", None)
    return item


def _roi_contour(roi: Roi, number: int, source: ImageSeries) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(roi.colour)
    item.ReferencedROINumber = number
    contours = [
        _contour(polygon, index, source)
        for index in np.flatnonzero(source.volume.with_array(roi.mask_zyx).array_zyx.any(axis=(1, 2))).tolist()
        for polygon in outlines(roi.mask_zyx[index])
    ]
    for contour_number, contour in enumerate(contours, start=1):
        contour.ContourNumber = contour_number
    if contours:
        item.ContourSequence = contours
    return item


def _contour(polygon: NDArray[np.float64], index: int, source: ImageSeries) -> Dataset:
    points = source.volume.points_lps(np.column_stack([polygon, np.full(len(polygon), index)]))
    item = Dataset()
    item.ContourImageSequence = [image_reference(source.headers[index])]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item.ContourData = decimal_strings(points.ravel())
    return item


def _frame_of_reference_uid(dataset: Dataset, definitions: Sequence[Dataset]) -> str:
    uids = {text(item, "ReferencedFrameOfReferenceUID") for item in definitions}
    if not uids:
        uids = {text(item, "FrameOfReferenceUID") for item in items(dataset, "ReferencedFrameOfReferenceSequence")}
    if len(uids) != 1 or not all(uids):
        raise InputRejected(f"The structure set is drawn in {len(uids)} Frames of Reference, not in one")
    return uids.pop()


def _referenced_series(dataset: Dataset) -> str:
    found = {
        text(series, "SeriesInstanceUID")
        for frame in items(dataset, "ReferencedFrameOfReferenceSequence")
        for study in items(frame, "RTReferencedStudySequence")
        for series in items(study, "RTReferencedSeriesSequence")
    }
    return found.pop() if len(found) == 1 else ""


def _read_roi(
    definition: Dataset, contours: Mapping[int | None, Dataset], types: Mapping[int | None, str]
) -> RoiContours:  # fmt: skip
    number = whole_number(definition, "ROINumber")
    if number is None:
        raise InputRejected("The structure set has a region without ROI Number")
    drawn = items(contours.get(number, Dataset()), "ContourSequence")
    return RoiContours(
        number=number,
        name=text(definition, "ROIName"),
        interpreted_type=types.get(number, ""),
        contours_lps=tuple(_points(item) for item in drawn if text(item, "ContourGeometricType") in CLOSED),
    )


def _points(item: Dataset) -> NDArray[np.float64]:
    try:
        points = np.array(item.ContourData, dtype=np.float64).reshape(-1, 3)
    except MALFORMED as error:
        raise InputRejected("The structure set has a contour that is no list of points") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise InputRejected("The structure set has a closed contour of less than three points")
    return points


def _planes(contours_xyz: Sequence[NDArray[np.float64]], spacing_mm: float) -> dict[float, list[NDArray[np.float64]]]:
    """Polygons (column, row) by slice index; the index has a fraction where contours lie between slices."""
    planes: dict[float, list[NDArray[np.float64]]] = {}
    for contour in contours_xyz:
        if np.ptp(contour[:, 2]) * spacing_mm > PLANAR_TOLERANCE_MM:
            raise InputRejected("A contour does not lie in a slice plane of the images")
        position = float(contour[:, 2].mean())
        near = next((known for known in planes if abs(known - position) * spacing_mm <= SAME_PLANE_MM), position)
        planes.setdefault(near, []).append(contour[:, :2])
    return planes
