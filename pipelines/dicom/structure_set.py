"""RT Structure Sets read: closed planar contours to masks on the grid of an image series.

References
----------
PS3.3 C.8.8.5 Structure Set, C.8.8.6 ROI Contour, C.8.8.8 RT ROI Observations
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from pipelines.base import InputRejected
from pipelines.dicom.contours import filled
from pipelines.dicom.elements import MALFORMED, items, numbers, text, whole_number
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.reading import read_instance
from pipelines.dicom.structure_names import standard_name
from pipelines.dicom.volume import Volume

PLANAR_TOLERANCE_MM = 0.5
"""How far the points of one contour may leave their common slice plane."""
SAME_PLANE_MM = 0.05
"""Contours nearer than this lie in one plane."""
CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})


@dataclass(frozen=True)
class RoiContours:
    """A region as it was read."""

    number: int
    name: str
    interpreted_type: str
    contours_lps: tuple[NDArray[np.float64], ...]
    """Closed planar contours, each (n, 3) in LPS mm."""
    image_uids: tuple[frozenset[str], ...]
    """SOP Instance UIDs that each contour names; often none."""
    others: int
    """Contours that are points or open lines and have no inside."""
    colour: tuple[int, int, int] | None = None
    """Red, green, blue, 0 to 255; None where the file states none."""


@dataclass(frozen=True)
class StructureSet:
    """The regions of an RT Structure Set, and what they are drawn on."""

    sop_instance_uid: str
    frame_of_reference_uid: str
    series_instance_uid: str
    """Of the images; empty where the file does not say it."""
    rois: tuple[RoiContours, ...]
    patient_id: str = ""


def read_structure_set(path: Path) -> StructureSet:
    """Read an RT Structure Set.

    Raises
    ------
    InputRejected
        If the file is broken, is no structure set, is drawn in more than one Frame of Reference, or has a contour
        that is no list of points.
    """
    dataset = read_instance(path, _READ)
    if text(dataset, "SOPClassUID") != RTStructureSetStorage:
        raise InputRejected("A file is not an RT Structure Set")
    contours = {whole_number(item, "ReferencedROINumber"): item for item in items(dataset, "ROIContourSequence")}
    types = {
        whole_number(item, "ReferencedROINumber"): text(item, "RTROIInterpretedType")
        for item in items(dataset, "RTROIObservationsSequence")
    }
    definitions = items(dataset, "StructureSetROISequence")
    return StructureSet(
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        frame_of_reference_uid=_frame_of_reference_uid(dataset, definitions),
        series_instance_uid=_referenced_series(dataset),
        rois=tuple(_read_roi(item, contours, types) for item in definitions),
        patient_id=text(dataset, "PatientID"),
    )


@dataclass(frozen=True)
class RoiMasks:
    """Regions on the grid of the images, and what of the file they do not show."""

    masks: Mapping[str, NDArray[np.bool_]]
    """By ROI Name, or by the name that was asked for."""
    remarks: tuple[str, ...]
    """One sentence for whatever was left out or does not fit the images. A name that is none of TG-263 may be
    anybody's, so such a region is called by its number."""


def masks(structures: StructureSet, series: ImageSeries) -> Mapping[str, NDArray[np.bool_]]:
    """Masks of all regions that have contours on the images; errors as in `roi_masks`."""
    return roi_masks(structures, series).masks


def roi_masks(structures: StructureSet, series: ImageSeries, names: Sequence[str] | None = None) -> RoiMasks:
    """Masks of the regions on the grid of `series`.

    A voxel belongs to a region if its centre lies inside an odd number of the contours of its slice, so that a contour
    within another is a hole, whether the two are joined by a keyhole or not. A slice takes the contours of the nearest
    plane, of two equally near ones the lower, within half the distance of the planes; hence contours on every second
    slice fill the slices between, and a slice that has none while its neighbours do stays empty. Contours beyond the
    first and last slice, and points and open lines, are left out with a remark, as is a region that has no others.

    Parameters
    ----------
    structures
        As read.
    series
        The images; their Frame of Reference decides, whichever series the structure set names.
    names
        The regions wanted, upper and lower case of TG-263 names being alike; None takes all.

    Raises
    ------
    InputRejected
        If the Frames of Reference differ; a contour does not lie in a slice plane or names a slice that it does not lie
        in; two regions have one name; or a region of `names` is absent or has no contour on the images.
    """
    if structures.frame_of_reference_uid != series.frame_of_reference_uid:
        raise InputRejected("The structure set and the images have different Frames of Reference")
    found: dict[str, NDArray[np.bool_]] = {}
    remarks: list[str] = []
    for name, roi in _wanted(structures, names):
        mask, said = _on_grid(roi, series)
        remarks += [f"{public_name(roi)} {one}" for one in said]
        if mask is not None:
            found[name] = mask
        elif names is not None:
            raise InputRejected(f"The region {name} has no contour on the images")
    return RoiMasks(found, tuple(remarks))


def mask_of(contours_lps: Iterable[NDArray[np.float64]], volume: Volume) -> NDArray[np.bool_]:
    """Voxels of the volume whose centre lies inside the closed contours; rules and errors as in `roi_masks`."""
    return _filled_slices([volume.indices_xyz(contour) for contour in contours_lps], volume)


_READ = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SpecificCharacterSet",
    "PatientID",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence",
    "ROIContourSequence",
    "RTROIObservationsSequence",
)


def _frame_of_reference_uid(dataset: Dataset, definitions: Sequence[Dataset]) -> str:
    uids = {text(item, "ReferencedFrameOfReferenceUID") for item in definitions}
    if not uids:
        uids = {text(item, "FrameOfReferenceUID") for item in items(dataset, "ReferencedFrameOfReferenceSequence")}
    if len(uids) != 1 or not all(uids):
        raise InputRejected(f"The structure set is drawn in {len(uids)} Frames of Reference, not in one")
    return uids.pop()


def _referenced_series(dataset: Dataset) -> str:
    found = {
        text(series, "SeriesInstanceUID")
        for frame in items(dataset, "ReferencedFrameOfReferenceSequence")
        for study in items(frame, "RTReferencedStudySequence")
        for series in items(study, "RTReferencedSeriesSequence")
    }
    return found.pop() if len(found) == 1 else ""


def _read_roi(
    definition: Dataset, contours: Mapping[int | None, Dataset], types: Mapping[int | None, str]
) -> RoiContours:  # fmt: skip
    number = whole_number(definition, "ROINumber")
    if number is None:
        raise InputRejected("The structure set has a region without ROI Number")
    contour = contours.get(number, Dataset())
    drawn = items(contour, "ContourSequence")
    closed = [item for item in drawn if text(item, "ContourGeometricType") in CLOSED]
    return RoiContours(
        number=number,
        name=text(definition, "ROIName"),
        interpreted_type=types.get(number, ""),
        contours_lps=tuple(_points(item) for item in closed),
        image_uids=tuple(_image_uids(item) for item in closed),
        others=len(drawn) - len(closed),
        colour=_colour(contour),
    )


def _colour(contour: Dataset) -> tuple[int, int, int] | None:
    found = numbers(contour, "ROIDisplayColor", 3)
    if found is None or not all(0 <= part <= 255 for part in found):
        return None
    red, green, blue = (round(part) for part in found)
    return red, green, blue


def _image_uids(item: Dataset) -> frozenset[str]:
    return frozenset(text(image, "ReferencedSOPInstanceUID") for image in items(item, "ContourImageSequence"))


def _points(item: Dataset) -> NDArray[np.float64]:
    try:
        points = np.array(item.ContourData, dtype=np.float64).reshape(-1, 3)
    except MALFORMED as error:
        raise InputRejected("The structure set has a contour that is no list of points") from error
    if len(points) < 3 or not np.isfinite(points).all():
        raise InputRejected("The structure set has a closed contour of less than three points")
    return points


def _wanted(structures: StructureSet, names: Sequence[str] | None) -> list[tuple[str, RoiContours]]:
    """Regions with the names that they go by."""
    if names is None:
        chosen = [(roi.name, roi) for roi in structures.rois]
    else:
        chosen = [(name, roi) for name in names for roi in structures.rois if is_called(roi, name)]
        for name in set(names) - {name for name, _ in chosen}:
            raise InputRejected(f"The structure set has no region {name}")
    drawn = [name for name, roi in chosen if roi.contours_lps]
    if len(set(drawn)) < len(drawn):
        raise InputRejected("The structure set has two regions of one name")
    return chosen


def is_called(roi: RoiContours, name: str) -> bool:
    """Whether a region goes by the name, upper and lower case of TG-263 names being alike."""
    return (standard_name(roi.name) or roi.name) == (standard_name(name) or name)


def public_name(roi: RoiContours) -> str:
    """What a sentence may call a region: its TG-263 name, or its number, as any other name may be anybody's."""
    return standard_name(roi.name) or f"ROI {roi.number}"


def _on_grid(roi: RoiContours, series: ImageSeries) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """The mask, None where no contour lies on the images, and what is to be said about it."""
    contours = [series.volume.indices_xyz(contour) for contour in roi.contours_lps]
    remarks = [f"has {roi.others} contours that are points or open"] if roi.others else []
    if not contours:
        return None, [*remarks, "has no closed contour"]
    absent = _count_absent_images(roi, contours, series)
    if absent:
        remarks.append(f"has {absent} of {len(contours)} contours that name images which the series does not have")
    last = len(series.headers) - 1
    beyond = sum(not -0.5 <= contour[:, 2].mean() <= last + 0.5 for contour in contours)
    if beyond:
        remarks.append(f"has {beyond} of {len(contours)} contours outside of the images")
    mask = _filled_slices(contours, series.volume)
    return (mask, remarks) if mask.any() else (None, [*remarks, "has no voxel in the images"])


def _count_absent_images(
    roi: RoiContours, contours_xyz: Sequence[NDArray[np.float64]], series: ImageSeries
) -> int:  # fmt: skip
    """How many contours name only images that the series lacks.

    Raises
    ------
    InputRejected
        If one names a slice of the series and lies farther from it than the next slice does.
    """
    slices: dict[str, list[int]] = {}
    for index, header in enumerate(series.headers):
        slices.setdefault(text(header, "SOPInstanceUID"), []).append(index)
    absent = 0
    for contour, uids in zip(contours_xyz, roi.image_uids, strict=True):
        named = [index for uid in uids for index in slices.get(uid, ())]
        if named and min(abs(contour[:, 2].mean() - index) for index in named) > 1:
            raise InputRejected("A contour names an image in which it does not lie")
        absent += bool(uids) and not named
    return absent


def _filled_slices(contours_xyz: Sequence[NDArray[np.float64]], volume: Volume) -> NDArray[np.bool_]:
    planes = _planes(contours_xyz, volume.spacing_zyx_mm[0])
    mask = np.zeros(volume.array_zyx.shape, dtype=np.bool_)
    if not planes:
        return mask
    positions = np.array(sorted(planes))
    # Rounded, so that planes exactly half way between slices go the same way on every machine.
    reach = max(1.0, round(float(np.median(np.diff(positions))), 3) if len(positions) > 1 else 1.0) / 2
    for index, plane in enumerate(mask):
        above = np.round(positions - index, 3)
        nearest = int(np.abs(above).argmin())
        if -reach <= above[nearest] < reach:
            plane[:] = filled(planes[positions[nearest]], plane.shape)
    return mask


def _planes(contours_xyz: Sequence[NDArray[np.float64]], spacing_mm: float) -> dict[float, list[NDArray[np.float64]]]:
    """Polygons (column, row) by slice index; the index has a fraction where contours lie between slices."""
    planes: dict[float, list[NDArray[np.float64]]] = {}
    for contour in contours_xyz:
        if np.ptp(contour[:, 2]) * spacing_mm > PLANAR_TOLERANCE_MM:
            raise InputRejected("A contour does not lie in a slice plane of the images")
        position = float(contour[:, 2].mean())
        near = next((known for known in planes if abs(known - position) * spacing_mm <= SAME_PLANE_MM), position)
        planes.setdefault(near, []).append(contour[:, :2])
    return planes
