"""Spatial Registration: the rigid transform from one Frame of Reference to another, read and written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SpatialRegistrationStorage

from models.rigid_motion import inverse
from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance, acquisition_date, companion, image_reference, series_number_behind
from pipelines.dicom.derived import coded, contributing_equipment, marked_description, put_own_equipment
from pipelines.dicom.elements import items, numbers, text
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.reading import read_instance
from pipelines.dicom.writing import put
from pipelines.provenance import PRODUCT, Provenance

RIGID_TOLERANCE = 1e-3
"""How far a rotation may be from orthonormal."""
SERIES_PLACE = 4
"""Of the series that are made of one source, which this is in a list sorted by number."""
SAME_PLACE_MM = 0.5
"""Two registrations that carry points no further apart than this say the same."""
SAME_PLACE_REACH_MM = 200.0


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

    Where both have one Frame of Reference, `moving` is named by its images alone: the matrix is then what is left
    between the patients of two days, and no transform of the Frame of Reference.

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
    moved = _registered(moving, matrix)
    if moving.frame_of_reference_uid == fixed.frame_of_reference_uid:
        del moved.FrameOfReferenceUID
    dataset.RegistrationSequence = [_registered(fixed, np.eye(4)), moved]
    _put_common_instances(dataset, fixed, moving)
    return dataset


def image_registration(
    planning: ImageSeries,
    target: ImageSeries,
    matrix_planning_to_target: NDArray[np.float64],
    origin: Provenance,
    description: str = "Registration to planning CT",
) -> Dataset:
    """The Spatial Registration of what this program found: from the images of the day back to the planning CT.

    It lies in the study of `target`. The same arguments make the same dataset, byte for byte.

    Parameters
    ----------
    planning, target
        The planning CT, which is the fixed side, and the images of the day.
    matrix_planning_to_target
        4 x 4, LPS mm: target = matrix @ planning; its inverse is written.
    origin
        What found it; decides the UIDs.
    description
        A few words; marked as not for treatment unless the labelling of `origin` says otherwise.
    """
    key = (planning.series_instance_uid, target.series_instance_uid)
    new = NewInstance(
        series_instance_uid=origin.uid("registration series", *key),
        sop_instance_uid=origin.uid("registration", *key),
        series_number=series_number_behind(target.header, SERIES_PLACE),
        series_description=marked_description(description, origin.labelling),
        manufacturer=PRODUCT,
    )
    dataset = spatial_registration(planning, target, inverse(matrix_planning_to_target), new)
    put_own_equipment(dataset, origin)
    dataset.ContributingEquipmentSequence = contributing_equipment(target.header, origin)
    return dataset


def known_matrix(
    from_uid: str, to_uid: str, registrations: Iterable[Registration]
) -> NDArray[np.float64] | None:  # fmt: skip
    """What carries points of one Frame of Reference into another, 4 x 4 in LPS mm, by registrations that were read.

    Identity where they are one; else by one registration, in either direction, or two that meet in a third Frame of
    Reference. None where none leads there.

    Raises
    ------
    InputRejected
        If two ways lead there and differ by more than SAME_PLACE_MM within SAME_PLACE_REACH_MM of the origin.
    """
    if from_uid == to_uid:
        return np.eye(4)
    steps = [step for one in registrations for step in (one, _turned(one))]
    direct = [one.matrix for one in steps if (_from(one), _to(one)) == (from_uid, to_uid)]
    found = direct or [
        second.matrix @ first.matrix
        for first in steps
        for second in steps
        if _from(first) == from_uid and _to(first) == _from(second) and _to(second) == to_uid
    ]
    if any(_apart_mm(found[0], other) > SAME_PLACE_MM for other in found[1:]):
        raise InputRejected("Two registrations between the Frames of Reference disagree")
    return found[0] if found else None


def given_matrix(
    planning: ImageSeries, target: ImageSeries, registrations: Iterable[Registration]
) -> NDArray[np.float64]:
    """As `known_matrix`, from the planning CT to the images of the day, for who can not do without.

    Raises
    ------
    InputRejected
        If the Frames of Reference differ and no registration leads from one to the other, or two disagree.
    """
    matrix = known_matrix(planning.frame_of_reference_uid, target.frame_of_reference_uid, registrations)
    if matrix is None:
        raise InputRejected(
            "No registration leads from the Frame of Reference of the planning CT to that of the images"
        )
    return matrix


def usable_registrations(paths: Iterable[Path]) -> list[Registration]:
    """The rigid transforms of all files that have any; a deformable registration or one that shears is passed over."""
    found: list[Registration] = []
    for path in paths:
        try:
            found += read_registration(path)
        except InputRejected:
            continue
    return found


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


def _turned(one: Registration) -> Registration:
    return Registration(one.moving_frame_of_reference_uid, one.fixed_frame_of_reference_uid, inverse(one.matrix))


def _from(one: Registration) -> str:
    return one.moving_frame_of_reference_uid


def _to(one: Registration) -> str:
    return one.fixed_frame_of_reference_uid


def _apart_mm(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    corners = np.array([*product((-SAME_PLACE_REACH_MM, SAME_PLACE_REACH_MM), repeat=3)])
    corners = np.column_stack([corners, np.ones(len(corners))])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


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
