"""Images by arithmetic, written with nothing but pydicom: no code under test has a part in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, dcmwrite
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROOT = "1.2.826.0.1.3680043.10.99999"
SLICE_MM, ROW_MM, COLUMN_MM = 3.0, 2.0, 1.5


def ramp(slices: int = 5, rows: int = 16, columns: int = 20) -> NDArray[np.int16]:
    """HU that tell every voxel from its neighbours."""
    values = np.arange(slices * rows * columns).reshape(slices, rows, columns) % 2000 - 1000
    return values.astype(np.int16)


def ct_slice(stored: NDArray[Any], index: int, **changes: Any) -> Dataset:
    """One CT image at `index` slice distances above the first."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{ROOT}.4.{index + 1}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
    dataset.FrameOfReferenceUID = f"{ROOT}.3"
    dataset.PatientName, dataset.PatientID = "Ramp^Test", "RAMP-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.ContentDate, dataset.ContentTime = ["20200102", "101112"] * 2
    dataset.Modality, dataset.Manufacturer, dataset.PatientPosition = "CT", "Maker", "HFS"
    dataset.SeriesNumber, dataset.InstanceNumber = 7, index + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [-10.0, -20.0, -30.0 + SLICE_MM * index]
    dataset.ImageOrientationPatient = list(AXIAL)
    dataset.PixelSpacing, dataset.SliceThickness = [ROW_MM, COLUMN_MM], SLICE_MM
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.KVP = 1, 0, 120
    dataset.add_new("PixelData", "OW", stored.astype("<i2").tobytes())
    return changed(dataset, **changes)


def changed(dataset: Dataset, **changes: Any) -> Dataset:
    """The dataset with elements set; None removes one."""
    for keyword, value in changes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def unchecked(dataset: Dataset, **changes: str) -> Dataset:
    """The dataset with values that the standard forbids."""
    for keyword, value in changes.items():
        tag = Tag(keyword)
        dataset.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))
    return dataset


def ct_series(stored_zyx: NDArray[Any] | None = None, **changes: Any) -> list[Dataset]:
    """A CT series; `changes` go into every slice."""
    stored_zyx = ramp() if stored_zyx is None else stored_zyx
    return [ct_slice(stored, index, **changes) for index, stored in enumerate(stored_zyx)]


def oriented_series(stored_zyx: NDArray[Any], orientation: Sequence[float], origin: Sequence[float]) -> list[Dataset]:
    """A CT series of any orientation, its slices ascending along the normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    series = ct_series(stored_zyx, ImageOrientationPatient=[f"{cosine:.9f}" for cosine in orientation])
    for index, dataset in enumerate(series):
        position = np.array(origin) + normal * SLICE_MM * index
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    return series


def mr_series(stored_zyx: NDArray[Any]) -> list[Dataset]:
    """An MR series, which has no Rescale Slope."""
    return ct_series(stored_zyx, SOPClassUID=MRImageStorage, Modality="MR", RescaleSlope=None, RescaleIntercept=None)


def pet_series(stored_zyx: NDArray[Any]) -> list[Dataset]:
    """A PET series whose slope differs from slice to slice, as they do."""
    series = ct_series(stored_zyx, SOPClassUID=PositronEmissionTomographyImageStorage, Modality="PT", Units="BQML")
    for index, dataset in enumerate(series):
        dataset.RescaleSlope = 0.5 * (index + 1)
    return series


def enhanced_ct(stored_zyx: NDArray[Any]) -> Dataset:
    """The same images as one enhanced multi-frame instance; frames are stored from top to bottom."""
    image = ct_slice(stored_zyx[0], 0, SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=len(stored_zyx))
    per_frame = [_frame(image, index) for index in reversed(range(len(stored_zyx)))]
    shared = Dataset()
    shared.PlaneOrientationSequence = [_picked(image, "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_picked(image, "PixelSpacing", "SliceThickness")]
    shared.PixelValueTransformationSequence = [_picked(image, "RescaleSlope", "RescaleIntercept")]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "KVP"):
        del image[keyword]
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], per_frame
    image["PixelData"].value = stored_zyx[::-1].astype("<i2").tobytes()
    return image


def _frame(image: Dataset, index: int) -> Dataset:
    position = Dataset()
    position.ImagePositionPatient = [-10.0, -20.0, -30.0 + SLICE_MM * index]
    frame = Dataset()
    frame.PlanePositionSequence = [position]
    return frame


def _picked(image: Dataset, *keywords: str) -> Dataset:
    return changed(Dataset(), **{keyword: image[keyword].value for keyword in keywords})


def write(datasets: Sequence[Dataset], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> list[Path]:
    """Write files; returned in an order that no reader may rely on."""
    paths = [folder / f"{index:03d}.dcm" for index in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
        dcmwrite(path, dataset, enforce_file_format=True)
    return paths[::-1]
