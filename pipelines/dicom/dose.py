"""RT Dose: a grid in Gy, read and written."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import RTDoseStorage, RTPlanStorage

from pipelines.base import InputRejected
from pipelines.dicom.attributes import IDENTITY, PIXEL, PLANE
from pipelines.dicom.companion import NewInstance, companion, decimal_strings, put_frame_of_reference, reference
from pipelines.dicom.elements import number, numbers, text
from pipelines.dicom.pixels import stored_values
from pipelines.dicom.reading import read_instance
from pipelines.dicom.stack import Plane, PlaneError, normal, planes_of
from pipelines.dicom.volume import Volume, affine_of

MAX_STORED = 2**31 - 2**10
"""Largest stored dose that is written: no reader takes it for negative, and a rounded scaling does not pass it."""
DOSE_TYPES = frozenset({"PHYSICAL", "EFFECTIVE"})
"""What can be measured; the third type, ERROR, is the difference of two doses."""
OFFSET_TOLERANCE_MM = 0.01
"""How far the planes of a dose grid may be from even distances."""
AXIAL_WITHIN = 1e-4
"""How far the normal of an axial plane may be from the axis of the patient, 1 less the cosine."""


@dataclass(frozen=True)
class Dose:
    """A dose grid in its place."""

    volume: Volume
    """Gy, float64; slices ascend along the normal."""
    frame_of_reference_uid: str
    dose_type: str
    """PHYSICAL, or EFFECTIVE where it was corrected for biological effect."""
    dose_summation_type: str
    """What the dose is of: PLAN, MULTI_PLAN, FRACTION, BEAM, BRACHY and others of PS3.3 C.8.8.3."""
    rt_plan_uid: str
    """SOP Instance UID of the plan; empty where the file does not say it."""


def read_dose(path: Path) -> Dose:
    """Read an RT Dose instance.

    Raises
    ------
    InputRejected
        If the file is broken, is no RT Dose, is not in Gy, is the error of a dose, or has planes at uneven distances.

    References
    ----------
    PS3.3 C.8.8.3 RT Dose Module
    """
    dataset = read_instance(path, _READ, pixels=True)
    if text(dataset, "SOPClassUID") != RTDoseStorage:
        raise InputRejected("A file is not an RT Dose")
    if not text(dataset, "FrameOfReferenceUID"):
        raise InputRejected("The dose does not say to which Frame of Reference it belongs")
    if text(dataset, "DoseType") not in DOSE_TYPES:
        raise InputRejected("Dose Type is neither PHYSICAL nor EFFECTIVE")
    values = dose_gy(dataset)
    planes = _planes(dataset, len(values))
    if len(planes) > 1 and np.dot(normal(planes[0]), _step(planes)) < 0:
        planes, values = planes[::-1], values[::-1]
    plans = dataset.get("ReferencedRTPlanSequence") or [Dataset()]
    return Dose(
        volume=Volume(values, affine_of(planes)),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        dose_type=text(dataset, "DoseType"),
        dose_summation_type=text(dataset, "DoseSummationType"),
        rt_plan_uid=text(plans[0], "ReferencedSOPInstanceUID"),
    )


def dose_gy(rt_dose: FileDataset) -> NDArray[np.float64]:
    """Dose grid of an RT Dose instance.

    Returns
    -------
    Dose in Gy, indexed [frame, row, column].

    Raises
    ------
    InputRejected
        If Dose Units is not GY; a relative dose says nothing without its reference.

    References
    ----------
    PS3.3 C.8.8.3 RT Dose Module
    """
    if text(rt_dose, "DoseUnits") != "GY":
        raise InputRejected("Dose Units is not GY")
    scaling = number(rt_dose, "DoseGridScaling")
    if scaling is None or scaling <= 0:
        raise InputRejected("The dose has no usable Dose Grid Scaling")
    return stored_values(rt_dose).astype(np.float64) * scaling


def rt_dose(header: Dataset, dose: Volume, rt_plan_uid: str, new: NewInstance) -> Dataset:
    """An RT Dose of a whole plan, in the Frame of Reference of an image.

    Parameters
    ----------
    header
        Of an image of the planning CT: patient, study, Frame of Reference.
    dose
        Physical dose in Gy, on any grid parallel to slices.
    rt_plan_uid
        SOP Instance UID of the plan that gives the dose.
    new
        UIDs and description.
    """
    dataset = companion(header, new, RTDoseStorage, "RTDOSE")
    put_frame_of_reference(dataset, header)
    _put_grid(dataset, dose)
    scaling = max(float(dose.array_zyx.max()), 1e-6) / MAX_STORED
    dataset.DoseGridScaling = f"{scaling:.9e}"
    dataset.DoseUnits = "GY"
    dataset.DoseType = "PHYSICAL"
    dataset.DoseSummationType = "PLAN"
    dataset.ReferencedRTPlanSequence = [reference(RTPlanStorage, rt_plan_uid)]
    stored = np.rint(dose.array_zyx / float(dataset.DoseGridScaling)).astype("<u4")
    dataset.add_new("PixelData", "OW", stored.tobytes())
    return dataset


_READ = (
    *IDENTITY,
    *PLANE,
    *PIXEL,
    "FrameOfReferenceUID",
    "GridFrameOffsetVector",
    "DoseUnits",
    "DoseType",
    "DoseGridScaling",
    "DoseSummationType",
    "ReferencedRTPlanSequence",
)


def _planes(dataset: FileDataset, count: int) -> list[Plane]:
    """The plane of each frame, from Grid Frame Offset Vector (PS3.3 C.8.8.3.2)."""
    try:
        (first,) = planes_of(dataset)
    except PlaneError as error:
        raise InputRejected(str(error)) from error
    offsets = _offsets_mm(dataset, first, count)
    origin = np.array(first.image_position_patient)
    return [
        Plane(
            first.frame_of_reference_uid,
            tuple(origin + normal(first) * offset),
            first.image_orientation_patient,
            first.pixel_spacing,
            first.rows,
            first.columns,
            first.slice_thickness,
        )
        for offset in offsets
    ]


def _offsets_mm(dataset: FileDataset, first: Plane, count: int) -> NDArray[np.float64]:
    if count == 1:
        return np.zeros(1)
    found = numbers(dataset, "GridFrameOffsetVector", count)
    if found is None:
        raise InputRejected("The dose has no usable Grid Frame Offset Vector")
    offsets = np.array(found) - found[0]
    if abs(found[0]) > OFFSET_TOLERANCE_MM:
        offsets *= _positions_sense(found[0], first)
    steps = np.diff(offsets)
    if np.ptp(steps) > OFFSET_TOLERANCE_MM or abs(steps[0]) < OFFSET_TOLERANCE_MM:
        raise InputRejected("The planes of the dose are not at even distances")
    return offsets


def _positions_sense(first_offset: float, first: Plane) -> float:
    """1 or -1: how the second form of the vector, positions along the axis of the patient, runs against the normal."""
    along = normal(first)[2]
    if abs(first_offset - first.image_position_patient[2]) > OFFSET_TOLERANCE_MM or abs(along) < 1.0 - AXIAL_WITHIN:
        raise InputRejected("The Grid Frame Offset Vector starts neither at 0 nor at the position of an axial plane")
    return float(np.sign(along))


def _step(planes: list[Plane]) -> NDArray[np.float64]:
    return np.subtract(planes[1].image_position_patient, planes[0].image_position_patient, dtype=np.float64)


def _put_grid(dataset: Dataset, dose: Volume) -> None:
    frames, dataset.Rows, dataset.Columns = dose.array_zyx.shape
    slice_mm, row_mm, column_mm = dose.spacing_zyx_mm
    dataset.NumberOfFrames = frames
    dataset.FrameIncrementPointer = Tag("GridFrameOffsetVector")
    dataset.GridFrameOffsetVector = decimal_strings(np.arange(frames) * slice_mm)
    dataset.ImagePositionPatient = decimal_strings(dose.affine[:3, 3])
    dataset.ImageOrientationPatient = decimal_strings(dose.image_orientation_patient, 6)
    dataset.PixelSpacing = decimal_strings((row_mm, column_mm), 6)
    dataset.SliceThickness = None
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 32, 32, 31, 0
    dataset.InstanceNumber = 1
