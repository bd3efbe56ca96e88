"""Derived CT series: new values on the grid of a source series, as instances that say what they are and are not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage

from pipelines.base import Inputs, Labelling, Pipeline, PipelineError
from pipelines.dicom.attributes import COPIED_FROM_SOURCE, EQUIPMENT, UNPAIRED_BODY_PARTS
from pipelines.dicom.companion import series_number_behind
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.writing import copy_elements, put, put_empty_where_absent
from pipelines.provenance import PRODUCT, Provenance, provenance

NOT_FOR_TREATMENT = "NOT FOR TREATMENT"
MAX_DESCRIPTION = 64
"""Characters in an element of VR LO (PS3.5 6.2)."""

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PatientPosition",
    "PositionReferenceIndicator",
    "SliceThickness",
    "KVP",
    "AcquisitionNumber",
)
"""Elements that a CT image must have, empty where nothing is known (PS3.3 A.3)."""

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Derivation:
    """What was done to the source, for Derivation Description and Code (PS3.3 C.7.6.1.1.3, CID 7203)."""

    description: str
    code: Code


def derived_ct_series(
    source: ImageSeries,
    hu_zyx: NDArray[np.floating],
    pipeline: Pipeline,
    inputs: Inputs,
    series_description: str,
    derivation: Derivation,
    made_of: Sequence[Sequence[Dataset]] | None = None,
) -> tuple[Dataset, ...]:
    """CT images on the grid, in the Frame of Reference and for the patient of `source`.

    Parameters
    ----------
    source
        The series that the values were made from; padding keeps its source values.
    hu_zyx
        New values in HU, indexed like the volume of `source`.
    pipeline, inputs
        What made the values of what; they decide the UIDs.
    series_description
        A few words; marked as not for treatment unless the labelling of `inputs` says otherwise.
    derivation
        What was done.
    made_of
        For each slice the headers of the instances that it was made of; None: its slice of `source`.

    Returns
    -------
    One CT Image Storage dataset for each slice, in the order of the volume. The same arguments make the same
    datasets, byte for byte: all dates and times are those of the source.

    Raises
    ------
    PipelineError
        If a value is not finite or the values do not fit into 16 bits.

    References
    ----------
    PS3.3 A.3 CT Image IOD
    """
    origin = provenance(pipeline, inputs)
    hu_zyx = np.where(source.padding_zyx, source.volume.array_zyx, source.volume.with_array(hu_zyx).array_zyx)
    stored, intercept = _stored(hu_zyx)
    common = _series_part(source, origin, series_description, derivation, intercept)
    padding = _padding_value(stored, source.padding_zyx)
    return tuple(
        _instance(common, header, plane, number, origin, padding, [header] if made_of is None else made_of[number - 1])
        for number, (header, plane) in enumerate(zip(source.headers, stored, strict=True), start=1)
    )


def marked_description(description: str, labelling: Labelling) -> str:
    """The Series Description, cut so that the mark still fits into the 64 characters of VR LO."""
    mark = f" {NOT_FOR_TREATMENT}" if labelling.not_for_treatment else ""
    return description[: MAX_DESCRIPTION - len(mark)].rstrip() + mark


def coded(code: Code) -> Dataset:
    """One item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def contributing_equipment(header: Dataset, origin: Provenance) -> list[Dataset]:
    """The machine that acquired the source and the program that processed it (PS3.3 C.12.1, CID 7005)."""
    processing = Dataset()
    processing.PurposeOfReferenceCodeSequence = [coded(codes.DCM.ProcessingEquipment)]
    put_own_equipment(processing, origin)
    processing.ContributionDescription = origin.description()
    if not text(header, "Manufacturer"):
        return [processing]
    acquisition = Dataset()
    acquisition.PurposeOfReferenceCodeSequence = [coded(codes.DCM.AcquisitionEquipment)]
    copy_elements(header, acquisition, EQUIPMENT)
    return [acquisition, processing]


def put_own_equipment(dataset: Dataset, origin: Provenance) -> None:
    """State this program as the equipment that made the dataset (PS3.3 C.7.5.1)."""
    dataset.Manufacturer = PRODUCT
    put(dataset, "ManufacturerModelName", origin.pipeline_name[:MAX_DESCRIPTION])
    dataset.SoftwareVersions = origin.version


def settle_laterality(instance: Dataset) -> None:
    """Type 2C: absent for a part that is not one of a pair, else there, if only empty (PS3.3 C.7.3.1)."""
    if text(instance, "BodyPartExamined") in UNPAIRED_BODY_PARTS:
        instance.pop("Laterality", None)
    else:
        put_empty_where_absent(instance, ("Laterality",))


def _stored(hu_zyx: NDArray[np.floating]) -> tuple[NDArray[np.int16], int]:
    """Stored values and Rescale Intercept at slope 1: rounding changes no value by more than half an HU."""
    if not np.isfinite(hu_zyx).all():
        raise PipelineError("The result has values that are not finite")
    rounded = np.rint(hu_zyx)
    low, high = int(rounded.min()), int(rounded.max())
    if high - low > _INT16.max - _INT16.min:
        raise PipelineError(f"The result spans {low} to {high} HU, more than 16 bits can hold")
    if low >= _INT16.min and high <= _INT16.max:
        return rounded.astype(np.int16), 0
    intercept = low - _INT16.min
    return (rounded.astype(np.int64) - intercept).astype(np.int16), intercept


def _padding_value(stored: NDArray[np.int16], padding_zyx: NDArray[np.bool_]) -> int | None:
    values = np.unique(stored[padding_zyx])
    return int(values[0]) if len(values) == 1 else None


def _series_part(
    source: ImageSeries, origin: Provenance, description: str, derivation: Derivation, intercept: int
) -> Dataset:
    """What all instances of the series share."""
    part = Dataset()
    part.SOPClassUID = CTImageStorage
    part.SeriesInstanceUID = origin.uid("series", source.series_instance_uid)
    put(part, "SeriesNumber", series_number_behind(source.header, 1))
    put(part, "SeriesDescription", marked_description(description, origin.labelling))
    part.Modality = "CT"
    part.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    put_own_equipment(part, origin)
    part.DerivationDescription = derivation.description[:1024]
    part.DerivationCodeSequence = [coded(derivation.code)]
    part.ContributingEquipmentSequence = contributing_equipment(source.header, origin)
    part.ContentQualification = origin.labelling.content_qualification
    _put_pixel_format(part, source, intercept)
    return part


def _put_pixel_format(part: Dataset, source: ImageSeries, intercept: int) -> None:
    _, part.Rows, part.Columns = source.volume.array_zyx.shape
    part.SamplesPerPixel = 1
    part.PhotometricInterpretation = "MONOCHROME2"
    part.BitsAllocated, part.BitsStored, part.HighBit, part.PixelRepresentation = 16, 16, 15, 1
    part.RescaleIntercept, part.RescaleSlope, part.RescaleType = intercept, 1, "HU"


def _instance(
    common: Dataset,
    header: Dataset,
    plane: NDArray[np.int16],
    number: int,
    origin: Provenance,
    padding: int | None,
    made_of: Sequence[Dataset],
) -> Dataset:
    instance = Dataset()
    copy_elements(header, instance, COPIED_FROM_SOURCE)
    put_empty_where_absent(instance, TYPE_2)
    settle_laterality(instance)
    instance.update(common)
    instance.SOPInstanceUID = origin.uid("instance", text(header, "SOPInstanceUID"), _frame_number(header))
    instance.InstanceNumber = number
    instance.SourceImageSequence = [_source_image(one) for one in made_of]
    if padding is not None:
        instance.add_new("PixelPaddingValue", "SS", padding)
    instance.add_new("PixelData", "OW", plane.astype("<i2").tobytes())
    return instance


def _frame_number(header: Dataset) -> str:
    return text(header, "ReferencedFrameNumber")


def _source_image(header: Dataset) -> Dataset:
    """Reference to the slice that a slice was made from (PS3.3 C.7.6.1.1.4, CID 7202)."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if _frame_number(header):
        item.ReferencedFrameNumber = header.ReferencedFrameNumber
    item.PurposeOfReferenceCodeSequence = [coded(codes.DCM.SourceImageForImageProcessingOperation)]
    return item
