"""Small valid instances of every kind, each with UIDs of its own, and their encoding as Part-10 files."""

import zlib
from collections.abc import Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SpatialRegistrationStorage,
    generate_uid,
)

from tests.ct import new_ct_series
from tests.pipelines.made import changed

SECRET_NAME, SECRET_ID = "SECRET^NAME", "SECRETID"


def ct_series(slices: int = 3, **changes: Any) -> list[Dataset]:
    """A whole CT series; `changes` go into every slice, None removes an element."""
    return new_ct_series(slices, 32, changes.pop("PatientID", "MADE-1"), **changes)


def instance(sop_class_uid: str, modality: str = "OT", **changes: Any) -> Dataset:
    """The least that the node asks of an instance: its identifiers."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(sop_class_uid), generate_uid(prefix=None)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Made^Up", "MADE-1", modality
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return changed(dataset, **changes)


def companion(of: Dataset, sop_class_uid: str, modality: str, **changes: Any) -> Dataset:
    """An instance in a series of its own, of the same patient and study."""
    same = {keyword: of[keyword].value for keyword in ("PatientID", "PatientName", "StudyInstanceUID")}
    return instance(sop_class_uid, modality, **{**same, **changes})


def structure_set(on: Sequence[Dataset], **changes: Any) -> Dataset:
    """A structure set without contours that refers to the images (PS3.3 C.8.8.5)."""
    contour_images = [reference(image) for image in on]
    series = changed(Dataset(), SeriesInstanceUID=on[0].SeriesInstanceUID, ContourImageSequence=contour_images)
    study = changed(reference(on[0]), RTReferencedSeriesSequence=[series])
    frame = changed(Dataset(), FrameOfReferenceUID=on[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])
    made = companion(on[0], RTStructureSetStorage, "RTSTRUCT", ReferencedFrameOfReferenceSequence=[frame])
    return changed(made, StructureSetLabel="MADE", **changes)


def rt_plan(on: Dataset, **changes: Any) -> Dataset:
    """A plan that refers to a structure set, and shares no Frame of Reference with anything."""
    return companion(on, RTPlanStorage, "RTPLAN", ReferencedStructureSetSequence=[reference(on)], **changes)


def rt_dose(of: Dataset, **changes: Any) -> Dataset:
    """A dose without a grid that refers to a plan only."""
    return companion(of, RTDoseStorage, "RTDOSE", ReferencedRTPlanSequence=[reference(of)], **changes)


def registration(one: Dataset, other: Dataset) -> Dataset:
    """A spatial registration between two Frames of Reference (PS3.3 C.20.2)."""
    sides = [changed(Dataset(), FrameOfReferenceUID=side.FrameOfReferenceUID) for side in (one, other)]
    return companion(one, SpatialRegistrationStorage, "REG", RegistrationSequence=sides)


def reference(to: Dataset) -> Dataset:
    """An item that refers to an instance (PS3.3 Table 10-11)."""
    return changed(Dataset(), ReferencedSOPClassUID=to.SOPClassUID, ReferencedSOPInstanceUID=to.SOPInstanceUID)


def with_elements(dataset: Dataset, **changes: Any) -> Dataset:
    """A copy with elements set; None removes one. Values that break their VR are kept as they are."""
    return changed(deepcopy(dataset), **changes)


def encoded(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian, **meta: str) -> bytes:
    """A Part-10 file in the transfer syntax; `meta` changes what the file meta information says, true or not."""
    copy = deepcopy(dataset)
    if syntax.is_encapsulated and "PixelData" in copy:
        copy.compress(syntax, generate_instance_uid=False)
    if syntax == ExplicitVRBigEndian and "PixelData" in copy:
        copy.PixelData = swapped(copy.PixelData)
    copy.file_meta = file_meta = FileMetaDataset()
    buffer = BytesIO()
    dcmwrite(buffer, copy, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    content = buffer.getvalue()
    if syntax.is_deflated:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = deflate.compress(content) + deflate.flush()
    file_meta.MediaStorageSOPClassUID = copy.get("SOPClassUID")
    file_meta.MediaStorageSOPInstanceUID = copy.get("SOPInstanceUID")
    changed(file_meta, **{"TransferSyntaxUID": syntax, **meta})
    head = BytesIO()
    write_file_meta_info(DicomIO(head), file_meta)
    return bytes(128) + b"DICM" + head.getvalue() + content


def data_set(file: bytes) -> bytes:
    """What follows the file meta information (PS3.10 7.1)."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


def swapped(words: bytes) -> bytes:
    """The bytes of 16-bit words in the other order."""
    other = bytearray(words)
    other[::2], other[1::2] = words[1::2], words[::2]
    return bytes(other)


def write(datasets: Sequence[Dataset | bytes], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> list[Path]:
    """One file for each dataset, in their order; bytes are written as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.dcm" for index in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        path.write_bytes(dataset if isinstance(dataset, bytes) else encoded(dataset, syntax))
    return paths
