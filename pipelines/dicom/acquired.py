"""CT and MR images as scanners write them, for made-up patients: demonstration and tests need series to receive."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from pipelines.dicom.companion import decimal_strings
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import put
from pipelines.provenance import hashed_uid


@dataclass(frozen=True)
class Machine:
    """What tells the series of one machine from those of others."""

    manufacturer: str
    manufacturer_model_name: str
    station_name: str


@dataclass(frozen=True)
class Scanner(Machine):
    """A CT, or what makes images like one."""

    kvp: int
    convolution_kernel: str
    series_description: str


@dataclass(frozen=True)
class MrScanner(Machine):
    """A spin-echo sequence of an MR scanner."""

    field_strength_t: float
    repetition_ms: float
    echo_ms: float
    echo_train_length: int
    series_description: str


@dataclass(frozen=True)
class Acquisition:
    """One scan of one made-up patient."""

    scanner: Scanner | MrScanner
    patient: Mapping[str, Any]
    """Patient and study elements by keyword."""
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    series_number: int
    date: str
    """VR DA."""
    time: str
    """VR TM."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further elements by keyword."""


def acquired_ct_series(volume: Volume, acquisition: Acquisition) -> tuple[Dataset, ...]:
    """CT Image Storage datasets of a volume in HU, one for each slice; HU are rounded and cut to 12 bits above -1024.

    References
    ----------
    PS3.3 A.3 CT Image IOD
    """
    stored = np.clip(np.rint(volume.array_zyx) + 1024, 0, 4095).astype("<u2")
    images = _images(volume, acquisition, stored)
    for image in images:
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = -1024, 1, "HU"
        image.WindowCenter, image.WindowWidth = 40, 400
    return images


def acquired_mr_series(volume: Volume, acquisition: Acquisition) -> tuple[Dataset, ...]:
    """MR Image Storage datasets of a volume without unit, one for each slice; rounded, and cut to 12 bits from 0.

    References
    ----------
    PS3.3 A.4 MR Image IOD
    """
    images = _images(volume, acquisition, np.clip(np.rint(volume.array_zyx), 0, 4095).astype("<u2"))
    for image in images:
        image.WindowCenter, image.WindowWidth = 500, 1000
    return images


def _images(volume: Volume, acquisition: Acquisition, stored: NDArray[np.uint16]) -> tuple[Dataset, ...]:
    return tuple(_image(volume, acquisition, index, plane.tobytes()) for index, plane in enumerate(stored))


def _image(volume: Volume, acquisition: Acquisition, index: int, pixels: bytes) -> Dataset:
    image = Dataset()
    for keyword, value in (*acquisition.patient.items(), *acquisition.extra.items()):
        put(image, keyword, value)
    _put_series(image, acquisition)
    _put_scanner(image, acquisition.scanner)
    image.SOPInstanceUID = hashed_uid([acquisition.series_instance_uid, index])
    image.InstanceNumber = index + 1
    _put_plane(image, volume, index)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.add_new("PixelData", "OW", pixels)
    return image


def _put_series(image: Dataset, acquisition: Acquisition) -> None:
    image.StudyInstanceUID = acquisition.study_instance_uid
    image.SeriesInstanceUID = acquisition.series_instance_uid
    image.FrameOfReferenceUID = acquisition.frame_of_reference_uid
    put(image, "PositionReferenceIndicator", None)
    image.SeriesNumber = acquisition.series_number
    for event in ("Study", "Series", "Acquisition", "Content"):
        put(image, f"{event}Date", acquisition.date)
        put(image, f"{event}Time", acquisition.time)
    image.AcquisitionNumber = 1
    image.PatientPosition = "HFS"


def _put_scanner(image: Dataset, scanner: Scanner | MrScanner) -> None:
    image.Manufacturer = scanner.manufacturer
    image.ManufacturerModelName = scanner.manufacturer_model_name
    image.StationName = scanner.station_name
    image.SeriesDescription = scanner.series_description
    if isinstance(scanner, Scanner):
        image.SOPClassUID, image.Modality = CTImageStorage, "CT"
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.KVP = scanner.kvp
        image.ConvolutionKernel = scanner.convolution_kernel
        return
    image.SOPClassUID, image.Modality = MRImageStorage, "MR"
    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    image.ScanningSequence, image.SequenceVariant = "SE", "SK"
    put(image, "ScanOptions", None)
    image.MRAcquisitionType = "2D"
    image.MagneticFieldStrength = scanner.field_strength_t
    image.RepetitionTime, image.EchoTime = scanner.repetition_ms, scanner.echo_ms
    image.EchoTrainLength = scanner.echo_train_length


def _put_plane(image: Dataset, volume: Volume, index: int) -> None:
    slice_mm, row_mm, column_mm = volume.spacing_zyx_mm
    position = volume.points_lps(np.array([[0.0, 0.0, index]]))[0]
    _, image.Rows, image.Columns = volume.array_zyx.shape
    image.PixelSpacing = decimal_strings((row_mm, column_mm), 6)
    image.SliceThickness = f"{slice_mm:.3f}"
    image.ImageOrientationPatient = decimal_strings(volume.image_orientation_patient, 6)
    image.ImagePositionPatient = decimal_strings(position)
