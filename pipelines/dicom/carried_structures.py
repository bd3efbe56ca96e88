"""The regions of a planning structure set on the images of another day, moved there by a rigid registration.

References
----------
PS3.3 A.19 RT Structure Set IOD, C.8.8.5 Predecessor Structure Set Sequence
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage
from scipy import ndimage

from models.rigid_motion import carried, resampled
from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance, reference, series_number_behind
from pipelines.dicom.derived import contributing_equipment, marked_description, put_own_equipment
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.organs import Organ, algorithm_version, organ_named
from pipelines.dicom.structure_names import standard_name
from pipelines.dicom.structure_set import (
    RoiContours,
    StructureSet,
    is_called,
    public_name,
    read_structure_set,
    roi_masks,
)
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import put
from pipelines.provenance import PRODUCT, Provenance

LABEL = "CARRIED"
SERIES_PLACE = 5
"""Of the series that are made of one source, which this is in a list sorted by number."""
LEAST_CUT = 0.001
"""Part of a region that may lie outside of the field of view without a word: less than a voxel of a small organ."""


@dataclass(frozen=True)
class CarriedStructures:
    """Regions that were carried over, and what of the structure set they do not show."""

    dataset: Dataset
    """RT Structure Set on the images of the day."""
    masks: Mapping[str, NDArray[np.bool_]]
    """By ROI Name, or by the name that was asked for; on the grid of the images of the day."""
    remarks: tuple[str, ...]
    """One sentence for whatever was cut, left out, or did not fit the planning CT."""


def carried_over(
    planning: ImageSeries,
    structures: Path | StructureSet,
    target: ImageSeries,
    matrix_planning_to_target: NDArray[np.float64],
    origin: Provenance,
    names: Sequence[str] | None = None,
    seen: NDArray[np.bool_] | None = None,
    registration_uid: str = "",
    description: str = "Carried over from planning CT",
) -> CarriedStructures:
    """Carry the regions of the planning CT over to the images of another day.

    A region is moved as the distance from its surface, interpolated linearly, so that its surface keeps its place
    within a fraction of a voxel; its shape stays that of the planning day. Names, colours and interpreted types stay.
    The same arguments make the same dataset, byte for byte.

    Parameters
    ----------
    planning, structures
        The planning CT, and the structure set that is drawn on it.
    target
        The images of the day.
    matrix_planning_to_target
        4 x 4, LPS mm: target = matrix @ planning.
    origin
        What is at work; decides the UIDs.
    names
        The regions wanted, as in `roi_masks`; None takes all.
    seen
        Voxels of `target` inside its field of view; None: all that are no padding.
    registration_uid
        SOP Instance UID of the Spatial Registration that holds the matrix, for the description.
    description
        A few words; marked as not for treatment unless the labelling of `origin` says otherwise.

    Raises
    ------
    InputRejected
        If the objects are of different patients, the structure set does not fit the planning CT (`roi_masks`), no
        region lies in the field of view, or the slices of `target` are not transverse.
    ValueError
        If `seen` is not on the grid of `target`.
    """
    read = read_structure_set(structures) if isinstance(structures, Path) else structures
    check_one_patient(planning, read, target)
    found = roi_masks(read, planning, names)
    seen = ~target.padding_zyx if seen is None else target.volume.with_array(seen).array_zyx
    moved, remarks = _moved(read, found.masks, planning, target, matrix_planning_to_target, seen)
    if not moved:
        raise InputRejected("No region of the structure set lies in the field of view of the images")
    rois = [_roi(_named(read, name), mask, origin) for name, mask in moved.items()]
    new = _new(target, read, origin, description)
    dataset = structure_set(target, rois, LABEL, new)
    put_own_equipment(dataset, origin)
    put(dataset, "StructureSetDescription", _said(read, registration_uid, origin))
    dataset.PredecessorStructureSetSequence = [reference(RTStructureSetStorage, read.sop_instance_uid)]
    dataset.ContributingEquipmentSequence = contributing_equipment(target.header, origin)
    return CarriedStructures(dataset, moved, (*found.remarks, *remarks))


def check_one_patient(planning: ImageSeries, structures: StructureSet, target: ImageSeries) -> None:
    """Carrying over joins objects of one patient only; an absent Patient ID is a difference too.

    Raises
    ------
    InputRejected
        If Patient IDs or their issuers differ.
    """
    ids = {text(series.header, "PatientID") for series in (planning, target)} | {structures.patient_id}
    issuers = {text(series.header, "IssuerOfPatientID") for series in (planning, target)} - {""}
    if len(ids) > 1 or len(issuers) > 1:
        raise InputRejected("The planning CT, its structure set and the images are not of one patient")


def carried_mask(
    mask_zyx: NDArray[np.bool_], planning: Volume, target: Volume, matrix_planning_to_target: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """A mask of the planning grid on the grid of `target`: where the interpolated distance to its surface is inside.

    The surface runs half way between voxels inside and outside; a mask that ends with the planning CT ends there.
    """
    if not mask_zyx.any():
        return np.zeros(target.array_zyx.shape, np.bool_)
    box = ndimage.find_objects(mask_zyx.astype(np.int8))[0]
    inside = np.pad(mask_zyx[box], _MARGIN)
    spacing = planning.spacing_zyx_mm
    distance_mm = ndimage.distance_transform_edt(inside, sampling=spacing) - ndimage.distance_transform_edt(
        ~inside, sampling=spacing
    )
    affine = planning.affine.copy()
    corner = np.array([[float(side.start - _MARGIN) for side in reversed(box)]])
    affine[:3, 3] = planning.points_lps(corner)[0]
    part = _reached(affine, inside.shape, target, matrix_planning_to_target)
    onto = target.affine.copy()
    onto[:3, 3] = target.points_lps(np.array([[float(side.start) for side in reversed(part)]]))[0]
    shape = tuple(max(0, side.stop - side.start) for side in part)
    moved = np.zeros(target.array_zyx.shape, np.bool_)
    if all(shape):
        moved[part] = resampled(distance_mm, affine, shape, onto, matrix_planning_to_target, _OUTSIDE_MM) > 0.0
    return moved


_MARGIN = 2
"""Voxels around a mask, so that the distance goes on beyond its surface."""
_OUTSIDE_MM = -1.0


def _reached(
    affine: NDArray[np.float64], shape_zyx: tuple[int, ...], target: Volume, matrix: NDArray[np.float64]
) -> tuple[slice, ...]:
    """The part of the target's grid that a box of the planning grid may reach."""
    ends = [(0, size - 1) for size in reversed(shape_zyx)]
    corners = np.array(np.meshgrid(*ends, indexing="ij"), np.float64).reshape(3, -1).T
    lps = carried(corners @ affine[:3, :3].T + affine[:3, 3], matrix)
    indices_zyx = target.indices_xyz(lps)[:, ::-1]
    return tuple(
        slice(max(0, int(np.floor(low))), min(size, int(np.ceil(high)) + 1))
        for low, high, size in zip(indices_zyx.min(0), indices_zyx.max(0), target.array_zyx.shape, strict=True)
    )


def _moved(
    structures: StructureSet,
    masks: Mapping[str, NDArray[np.bool_]],
    planning: ImageSeries,
    target: ImageSeries,
    matrix: NDArray[np.float64],
    seen: NDArray[np.bool_],
) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    """The regions that lie in the field of view, by name, and what is to be said about those that do not."""
    moved: dict[str, NDArray[np.bool_]] = {}
    remarks: list[str] = []
    for name, mask in masks.items():
        called = public_name(_named(structures, name))
        there = carried_mask(mask, planning.volume, target.volume, matrix) & seen
        outside = part_outside(mask, planning.volume, target.volume, matrix, seen)
        if there.any():
            moved[name] = there
            if outside > LEAST_CUT:
                remarks.append(f"{called} lies by {100 * outside:.2g} % outside of the field of view and is cut")
        elif outside > 1.0 - LEAST_CUT:
            remarks.append(f"{called} lies outside of the field of view and is left out")
        else:
            remarks.append(f"{called} is too small for the voxels of the images and is left out")
    return moved, remarks


def part_outside(
    mask_zyx: NDArray[np.bool_],
    planning: Volume,
    target: Volume,
    matrix: NDArray[np.float64],
    seen: NDArray[np.bool_],
) -> float:
    """Part of the region's voxels that come to lie where the target has no data, 0 to 1; arguments as elsewhere."""
    lps = carried(planning.points_lps(np.argwhere(mask_zyx)[:, ::-1].astype(np.float64)), matrix)
    indices_zyx = np.rint(target.indices_xyz(lps)[:, ::-1]).astype(np.int64)
    within = ((indices_zyx >= 0) & (indices_zyx < seen.shape)).all(axis=1)
    return 1.0 - float(seen[tuple(indices_zyx[within].T)].sum()) / len(indices_zyx)


def _named(structures: StructureSet, name: str) -> RoiContours:
    drawn = [roi for roi in structures.rois if roi.contours_lps]
    same = [roi for roi in drawn if roi.name == name]
    return (same or [roi for roi in drawn if is_called(roi, name)])[0]


def _roi(roi: RoiContours, mask_zyx: NDArray[np.bool_], origin: Provenance) -> Roi:
    organ = _organ(roi)
    colour = roi.colour or (organ.colour if organ else Roi.colour)
    return Roi(roi.name, mask_zyx, roi.interpreted_type, colour, organ, algorithm_version(origin))


def _organ(roi: RoiContours) -> Organ | None:
    """Its code, where the name is one of the standard and no target or outline, which are no organs."""
    name = standard_name(roi.name)
    return organ_named(name) if name and roi.interpreted_type in ("", "ORGAN") else None


def _new(target: ImageSeries, structures: StructureSet, origin: Provenance, description: str) -> NewInstance:
    key = (target.series_instance_uid, structures.sop_instance_uid)
    return NewInstance(
        series_instance_uid=origin.uid("carried structure set series", *key),
        sop_instance_uid=origin.uid("carried structure set", *key),
        series_number=series_number_behind(target.header, SERIES_PLACE),
        series_description=marked_description(description, origin.labelling),
        manufacturer=PRODUCT,
    )


def _said(structures: StructureSet, registration_uid: str, origin: Provenance) -> str:
    by = f"registration {registration_uid}" if registration_uid else "a rigid registration"
    return f"Carried over from structure set {structures.sop_instance_uid} by {by}. {origin.description()}"[:1024]
