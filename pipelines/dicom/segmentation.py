"""Organs found by an algorithm as a DICOM Segmentation: one binary segment for each, on the grid of the images.

References
----------
PS3.3 A.51 Segmentation IOD, C.8.20.2 Segmentation Image, C.8.20.4 Segment Description
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage
from pydicom.valuerep import format_number_as_ds

from pipelines.dicom.attributes import LOSSY_COMPRESSION, PATIENT, STUDY
from pipelines.dicom.companion import TYPE_2, acquisition_date, image_reference, reference, series_number_behind
from pipelines.dicom.derived import MAX_DESCRIPTION, contributing_equipment, marked_description
from pipelines.dicom.elements import number, numbers
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.organs import Organ, OrganObject, algorithm_version, organs_with_voxels
from pipelines.dicom.writing import copy_elements, put, put_empty_where_absent
from pipelines.provenance import PRODUCT, Provenance

SERIES_PLACE = 2
"""Of the series that are made of one source, which this is in a list sorted by number."""
UNKNOWN_DATE, UNKNOWN_TIME = "19000101", "000000"
"""Content Date and Time must have a value, also where the images state no date at all and no clock is asked."""

_IDENTITY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "Rows",
    "Columns",
    *LOSSY_COMPRESSION,
)
"""What the library is told of a source slice beside where it lies, and nothing about the patient."""


def segmentation(
    source: ImageSeries, masks: Mapping[str, NDArray[np.bool_]], origin: Provenance, description: str
) -> OrganObject:
    """A binary Segmentation of the organs in `masks` on the slices of `source`.

    Slices without the organ are no frames; an organ without a voxel is left out, with a sentence. The same arguments
    make the same dataset, byte for byte: dates are those of the source, UIDs those of `origin`.

    Parameters
    ----------
    source
        The images that the organs were found in.
    masks
        By TG-263 name, indexed [slice, row, column] like the volume of `source`.
    origin
        What made the masks; names the algorithm and its version.
    description
        A few words for the Series Description; marked as not for treatment unless the labelling says otherwise.

    Raises
    ------
    InputRejected
        If no organ has a voxel.
    ValueError
        If a mask is not on the grid, or a name can not be the name of an organ.
    """
    organs, left_out = organs_with_voxels(source, masks)
    spacing_mm = source.volume.spacing_zyx_mm[0]
    with warnings.catch_warnings():
        # The library's warnings quote what it was given.
        warnings.simplefilter("ignore", UserWarning)
        made = Segmentation(
            source_images=[_placed(header, index, spacing_mm) for index, header in enumerate(source.headers)],
            pixel_array=_segment_numbers([mask for _, mask in organs]),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(organ, place, origin) for place, (organ, _) in enumerate(organs, start=1)],
            series_instance_uid=origin.uid("segmentation series", source.series_instance_uid),
            series_number=series_number_behind(source.header, SERIES_PLACE),
            sop_instance_uid=origin.uid("segmentation", source.series_instance_uid),
            instance_number=1,
            manufacturer=PRODUCT,
            manufacturer_model_name=origin.pipeline_name[:MAX_DESCRIPTION],
            software_versions=origin.version,
            device_serial_number=origin.settings_sha256,
            content_label="SEGMENTATION",
            content_description=description[:MAX_DESCRIPTION],
        )
    _settle(made, source, origin, description)
    _name_frames(made, source)
    return OrganObject(made, left_out)


def _placed(header: Dataset, index: int, spacing_mm: float) -> Dataset:
    """The slice without its patient: the library logs and refuses names and sexes that the standard forbids."""
    slice_ = Dataset()
    copy_elements(header, slice_, _IDENTITY)
    # Written anew: many scanners give more digits than the 16 characters of VR DS, and the thickness is often absent.
    for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        put(slice_, keyword, [format_number_as_ds(value) for value in numbers(header, keyword, count) or ()])
    slice_.SliceThickness = format_number_as_ds(number(header, "SliceThickness") or spacing_mm)
    put_empty_where_absent(slice_, TYPE_2)
    if "ReferencedFrameNumber" in header:
        # The library takes one multi-frame image or many single ones; `_name_frames` says what they are.
        slice_.SOPClassUID = CTImageStorage
        slice_.SOPInstanceUID = _stand_in(index)
    return slice_


def _stand_in(index: int) -> str:
    return f"2.25.{index + 1}"


def _segment_numbers(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Number of the segment at each voxel; with an axis more, [slice, row, column, segment], where organs overlap."""
    segments = np.zeros(masks[0].shape, dtype=np.uint8)
    if len(masks) > np.iinfo(np.uint8).max or (np.add.reduce(masks, dtype=np.uint8) > 1).any():
        return np.stack(masks, axis=-1).astype(np.uint8)
    for segment, mask in enumerate(masks, start=1):
        segments[mask] = segment
    return segments


def _segment(organ: Organ, place: int, origin: Provenance) -> SegmentDescription:
    segment = SegmentDescription(
        segment_number=place,
        segment_label=organ.name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=organ.code,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=origin.pipeline_name[:MAX_DESCRIPTION],
            family=codes.DCM.ArtificialIntelligence,
            version=algorithm_version(origin),
            source=PRODUCT,
            parameters={
                "settings_sha256": origin.settings_sha256,
                "weights_sha256": " ".join(origin.weights_sha256) or "none",
            },
        ),
        tracking_uid=origin.uid("organ", organ.name),
        tracking_id=organ.name,
        display_color=CIELabColor.from_rgb(*organ.colour),
    )
    # As the library made it, but with the side; it checks the type of what is assigned.
    put(segment, "SegmentedPropertyTypeCodeSequence", [organ.type_code()])
    return segment


def _settle(made: Dataset, source: ImageSeries, origin: Provenance, description: str) -> None:
    """The patient, what the library leaves out, and what it fills in from the clock or by chance."""
    header = source.header
    copy_elements(header, made, PATIENT + STUDY)
    # No Laterality of the series: each segment states its own side.
    copy_elements(header, made, ("BodyPartExamined",))
    put(made, "SeriesDescription", marked_description(description, origin.labelling))
    date, time = acquisition_date(header)
    for event in ("InstanceCreation", "Series"):
        put(made, f"{event}Date", date)
        put(made, f"{event}Time", time)
    put(made, "ContentDate", date or UNKNOWN_DATE)
    put(made, "ContentTime", time or UNKNOWN_TIME)
    made.ContentQualification = origin.labelling.content_qualification
    made.ContributingEquipmentSequence = contributing_equipment(header, origin)
    organization = origin.uid("segmentation dimensions", source.series_instance_uid)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization


def _name_frames(made: Dataset, source: ImageSeries) -> None:
    """Put the frames of a multi-frame source where `_placed` gave the library an instance for each."""
    if "ReferencedFrameNumber" not in source.header:
        return
    frames = {_stand_in(index): image_reference(header) for index, header in enumerate(source.headers)}
    for group in made.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            derivation.SourceImageSequence = [_named(item, frames) for item in derivation.SourceImageSequence]
    made.SourceImageSequence = [_named(item, frames) for item in made.SourceImageSequence]
    for series in made.ReferencedSeriesSequence:
        named = [frames[item.ReferencedSOPInstanceUID] for item in series.ReferencedInstanceSequence]
        instances = {item.ReferencedSOPInstanceUID: item.ReferencedSOPClassUID for item in named}
        series.ReferencedInstanceSequence = [reference(sop_class, uid) for uid, sop_class in instances.items()]


def _named(item: Dataset, frames: Mapping[str, Dataset]) -> Dataset:
    named = Dataset()
    named.update(item)
    named.update(frames[item.ReferencedSOPInstanceUID])
    return named
