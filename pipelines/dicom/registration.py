"""Spatial Registration: the rigid transform from one Frame of Reference to another, read and written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SpatialRegistrationStorage

from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance, acquisition_date, companion, image_reference
from pipelines.dicom.derived import coded
from pipelines.dicom.elements import items, numbers, text
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.reading import read_instance
from pipelines.dicom.writing import put

RIGID_TOLERANCE = 1e-3
"""How far a rotation may be from orthonormal."""


@dataclass(frozen=True)
class Registration:
    """Carries points of the moving Frame of Reference into the fixed one."""

    fixed_frame_of_reference_uid: str
    moving_frame_of_reference_uid: str
    matrix: NDArray[np.float64]
    """4 x 4, LPS mm: fixed = matrix @ moving."""


def spatial_registration(
    fixed: ImageSeries, moving: ImageSeries, matrix: NDArray[np.float64], new: NewInstance
) -> Dataset:
    """A Spatial Registration that carries points of `moving` into the Frame of Reference of `fixed`.

    References
    ----------
    PS3.3 A.39.1 Spatial Registration IOD, C.20.2
    """
    dataset = companion(moving.header, new, SpatialRegistrationStorage, "REG")
    dataset.FrameOfReferenceUID = fixed.frame_of_reference_uid
    put(dataset, "PositionReferenceIndicator", None)
    put(dataset, "Laterality", None)
    date, time = acquisition_date(moving.header)
    put(dataset, "ContentDate", date)
    put(dataset, "ContentTime", time)
    dataset.InstanceNumber = 1
    dataset.ContentLabel = "REGISTRATION"
    put(dataset, "ContentDescription", None)
    put(dataset, "ContentCreatorName", None)
    dataset.RegistrationSequence = [_registered(fixed, np.eye(4)), _registered(moving, matrix)]
    _put_common_instances(dataset, fixed, moving)
    return dataset


def read_registration(path: Path) -> tuple[Registration, ...]:
    """Read the rigid transforms of a Spatial Registration, one for each Frame of Reference that it moves.

    Raises
    ------
    InputRejected
        If the file is broken, is no Spatial Registration, or has a matrix that is not rigid.
    """
    dataset = read_instance(path, ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "RegistrationSequence"))
    if text(dataset, "SOPClassUID") != SpatialRegistrationStorage:
        raise InputRejected("A file is not a Spatial Registration")
    fixed = text(dataset, "FrameOfReferenceUID")
    if not fixed:
        raise InputRejected("The registration does not say to which Frame of Reference it leads")
    moved = [(text(item, "FrameOfReferenceUID"), item) for item in items(dataset, "RegistrationSequence")]
    return tuple(Registration(fixed, uid, _matrix(item)) for uid, item in moved if uid not in ("", fixed))


def _registered(series: ImageSeries, matrix: NDArray[np.float64]) -> Dataset:
    transform = Dataset()
    transform.FrameOfReferenceTransformationMatrix = [f"{value:.9g}" for value in matrix.ravel()]
    transform.FrameOfReferenceTransformationMatrixType = "RIGID"
    step = Dataset()
    step.MatrixSequence = [transform]
    put(step, "FrameOfReferenceTransformationComment", None)
    step.RegistrationTypeCodeSequence = [coded(codes.DCM.ImageContentBasedAlignment)]
    item = Dataset()
    item.FrameOfReferenceUID = series.frame_of_reference_uid
    item.ReferencedImageSequence = [image_reference(header) for header in series.headers]
    item.MatrixRegistrationSequence = [step]
    return item


def _put_common_instances(dataset: Dataset, fixed: ImageSeries, moving: ImageSeries) -> None:
    """List the images by study, as PS3.3 C.12.2 Common Instance Reference asks."""
    if fixed.header.StudyInstanceUID == moving.header.StudyInstanceUID:
        dataset.ReferencedSeriesSequence = _series_items((fixed, moving))
        return
    dataset.ReferencedSeriesSequence = _series_items((moving,))
    other = Dataset()
    other.StudyInstanceUID = fixed.header.StudyInstanceUID
    other.ReferencedSeriesSequence = _series_items((fixed,))
    dataset.StudiesContainingOtherReferencedInstancesSequence = [other]


def _series_items(many: Sequence[ImageSeries]) -> list[Dataset]:
    found = []
    for series in many:
        item = Dataset()
        item.SeriesInstanceUID = series.series_instance_uid
        item.ReferencedInstanceSequence = [image_reference(header) for header in series.headers]
        found.append(item)
    return found


def _matrix(item: Dataset) -> NDArray[np.float64]:
    """All matrices of one item, applied in their order (PS3.3 C.20.2.1.1)."""
    matrix = np.eye(4)
    for step in items(item, "MatrixRegistrationSequence"):
        for transform in items(step, "MatrixSequence"):
            found = numbers(transform, "FrameOfReferenceTransformationMatrix", 16)
            if found is None:
                raise InputRejected("The registration has a matrix that is not 4 x 4")
            matrix = np.array(found).reshape(4, 4) @ matrix
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID_TOLERANCE or np.linalg.det(rotation) < 0:
        raise InputRejected("The registration is not rigid")
    return matrix
