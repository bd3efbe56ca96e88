"""RT Structure Sets written: masks on an image series as closed planar contours that a planning system imports.

References
----------
PS3.3 A.19 RT Structure Set IOD, C.8.8.5 Structure Set, C.8.8.6 ROI Contour, C.8.8.8 RT ROI Observations
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
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
    series_number_behind,
)
from pipelines.dicom.contours import Polygon, outlines
from pipelines.dicom.derived import coded, contributing_equipment, marked_description, put_own_equipment
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.organs import Organ, OrganObject, algorithm_version, organs_with_voxels
from pipelines.dicom.writing import put
from pipelines.provenance import PRODUCT, Provenance

COSINE_TOLERANCE = 1e-3
"""How far a direction of the images may be from an axis of the patient: half a millimetre across 500 mm."""
MAX_POINTS = 2000
"""Of one contour: in Explicit VR its text ends at 65534 bytes (PS3.5 7.1.2), and a point takes up to 30."""
ROI_NAME_LENGTH = 64
"""VR LO; some planning systems cut a name after 16 characters."""
DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""Retired SOP Class that a structure set still names the study by (PS3.3 C.8.8.5)."""
SERIES_PLACE = 3
"""Of the series that are made of one source, which this is in a list sorted by number."""


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
    organ: Organ | None = None
    """Its code, where there is one."""
    generated_by: str = ""
    """What found it, at most 64 characters."""


def structure_set(source: ImageSeries, rois: Sequence[Roi], label: str, new: NewInstance) -> Dataset:
    """An unapproved RT Structure Set on the slices of `source`.

    Contours run half way between the centres of pixels inside and outside and cut corners, so that reading the file
    gives back exactly the masks, and a contour holds half a pixel less than its pixels, whatever its size: a part that
    is one pixel thin stays, a single pixel is a diamond of half its area. Holes are keyholes; every contour names its
    image. An empty mask is written as an ROI without contours. A contour of more than MAX_POINTS is cut into parts
    that touch.

    Raises
    ------
    InputRejected
        If the slices are oblique, sagittal or coronal.
    """
    check_transverse(source)
    dataset = companion(source.header, new, RTStructureSetStorage, "RTSTRUCT")
    put_frame_of_reference(dataset, source.header)
    put(dataset, "StructureSetLabel", label[:16])
    date, time = acquisition_date(source.header)
    for event in ("StructureSet", "Series"):
        put(dataset, f"{event}Date", date)
        put(dataset, f"{event}Time", time)
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame_of_reference(source)]
    numbered = list(enumerate(rois, start=1))
    uid = source.frame_of_reference_uid
    dataset.StructureSetROISequence = [_definition(roi, number, uid) for number, roi in numbered]
    dataset.ROIContourSequence = [_roi_contour(roi, number, source) for number, roi in numbered]
    dataset.RTROIObservationsSequence = [_observation(roi, number) for number, roi in numbered]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def organ_structure_set(
    source: ImageSeries, masks: Mapping[str, NDArray[np.bool_]], origin: Provenance, description: str
) -> OrganObject:
    """The RT Structure Set of organs that an algorithm found; parameters and determinism as of `segmentation`.

    Raises
    ------
    InputRejected
        If no organ has a voxel, or the slices are oblique, sagittal or coronal.
    ValueError
        If a mask is not on the grid, or a name can not be the name of an organ.
    """
    organs, left_out = organs_with_voxels(source, masks)
    new = NewInstance(
        series_instance_uid=origin.uid("structure set series", source.series_instance_uid),
        sop_instance_uid=origin.uid("structure set", source.series_instance_uid),
        series_number=series_number_behind(source.header, SERIES_PLACE),
        series_description=marked_description(description, origin.labelling),
        manufacturer=PRODUCT,
    )
    found_by = algorithm_version(origin)
    rois = [Roi(organ.name, mask, "ORGAN", organ.colour, organ, found_by) for organ, mask in organs]
    dataset = structure_set(source, rois, PRODUCT, new)
    put_own_equipment(dataset, origin)
    put(dataset, "StructureSetDescription", origin.description())
    dataset.ContributingEquipmentSequence = contributing_equipment(source.header, origin)
    return OrganObject(dataset, left_out)


def check_transverse(source: ImageSeries) -> None:
    """Planning systems take contours on transverse slices along the patient's axes, in whatever position he lay.

    Raises
    ------
    InputRejected
        If the slices are oblique, sagittal or coronal.
    """
    cosines = np.abs(np.array(source.volume.image_orientation_patient).reshape(2, 3))
    normal = np.abs(source.volume.affine[:3, 2]) / source.volume.spacing_zyx_mm[0]
    if (np.minimum(cosines, 1 - cosines) > COSINE_TOLERANCE).any() or normal[2] < 1 - COSINE_TOLERANCE:
        raise InputRejected("The slices are not transverse, and planning systems take no contours on oblique ones")


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
    if roi.generated_by:
        put(item, "ROIGenerationDescription", roi.generated_by)
    return item


def _observation(roi: Roi, number: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = roi.interpreted_type
    put(item, "ROIInterpreter", None)
    if roi.organ is not None:
        item.SegmentedPropertyCategoryCodeSequence = [coded(codes.SCT.AnatomicalStructure)]
        item.RTROIIdentificationCodeSequence = [roi.organ.type_code()]
    return item


def _roi_contour(roi: Roi, number: int, source: ImageSeries) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(roi.colour)
    item.ReferencedROINumber = number
    contours = [
        _contour(polygon, index, source)
        for index in np.flatnonzero(source.volume.with_array(roi.mask_zyx).array_zyx.any(axis=(1, 2))).tolist()
        for polygon in _drawn(roi.mask_zyx[index])
    ]
    for contour_number, contour in enumerate(contours, start=1):
        contour.ContourNumber = contour_number
    if contours:
        item.ContourSequence = contours
    return item


def _drawn(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Contours of the mask; those of its halves, where one would have too many points."""
    polygons = outlines(mask)
    if all(len(polygon) <= MAX_POINTS for polygon in polygons):
        return polygons
    axis = int(np.argmax(np.ptp(np.argwhere(mask), axis=0)))
    middle = int(np.median(np.flatnonzero(mask.any(axis=1 - axis))))
    first = (np.arange(mask.shape[axis]) <= middle).reshape((-1, 1) if axis == 0 else (1, -1))
    return _drawn(mask & first) + _drawn(mask & ~first)


def _contour(polygon: Polygon, index: int, source: ImageSeries) -> Dataset:
    points = source.volume.points_lps(np.column_stack([polygon, np.full(len(polygon), index)]))
    item = Dataset()
    item.ContourImageSequence = [image_reference(source.headers[index])]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    # Not judged one by one, which would take longer than all the rest: a coordinate is never too long.
    put(item, "ContourData", decimal_strings(points.ravel()))
    return item
