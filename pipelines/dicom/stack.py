"""Geometry of a stack of parallel slices, judged from the headers alone.

The reader of images refuses what is found here; the node asks the same question to know whether a series that is still
arriving is geometrically whole. No pixel is touched, so 500 headers take a fraction of a second.

Localizers (scouts; Image Type value 3) that a console put into the series of their scan are left out: they lie across
the stack on purpose. A series of nothing but localizers is whole, and no reader takes it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from pipelines.dicom.elements import items, number, numbers, text, whole_number, words

MODALITY_OF: dict[str, str] = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    LegacyConvertedEnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
    LegacyConvertedEnhancedMRImageStorage: "MR",
    PositronEmissionTomographyImageStorage: "PT",
    EnhancedPETImageStorage: "PT",
    LegacyConvertedEnhancedPETImageStorage: "PT",
}
"""SOP Classes whose instances are stacked slices, with their Modality (PS3.3 A.3, A.4, A.21, A.36 ...)."""

POSITION_TOLERANCE_MM = 0.1
"""How far a slice may lie from the place that equal spacing gives it; headers round positions to a tenth."""
POSITION_TOLERANCE_STEP = 0.1
"""The same, as a part of the distance between slices; the smaller of the two counts."""
DUPLICATE_TOLERANCE_MM = 0.01
"""Slices nearer than this lie at the same place."""
ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within a stack, and of a cosine pair from a right angle."""
SHEAR_TOLERANCE_MM = 0.1
"""How far slices may be shifted in their plane against each other, whatever their distance."""
SHEAR_TOLERANCE_SLOPE = 2e-3
"""The same, per mm along the normal: an eighth of a degree, below what a gantry can be set to."""
PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Largest difference of Pixel Spacing within a stack: 0.05 mm over 512 pixels."""
MULTIPLE_TOLERANCE = 0.15
"""How far a distance may be from a whole multiple of the smallest one to count as slices that are missing."""


class FaultKind(StrEnum):
    """What keeps slices from being one regular volume."""

    EMPTY = "empty"
    INVALID = "invalid"
    """A header has no usable position, orientation, pixel spacing or matrix."""
    FRAMES_OF_REFERENCE = "frames_of_reference"
    MATRIX = "matrix"
    PIXEL_SPACING = "pixel_spacing"
    ORIENTATIONS = "orientations"
    TILT = "tilt"
    """Positions are sheared against the normal of the slices: a tilted gantry."""
    DUPLICATE = "duplicate"
    """Two slices at one position."""
    GAP = "gap"
    UNEVEN = "uneven"
    """Distances vary, and not by slices that are missing."""


@dataclass(frozen=True)
class StackFault:
    """Why slices are not one regular volume."""

    kind: FaultKind
    curable: bool
    """Whether more instances of the series could make it whole."""
    text: str
    """One plain sentence, without a full stop."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one slice lies: mm in the patient's LPS frame.

    References
    ----------
    PS3.3 C.7.6.2 Image Plane Module
    """

    frame_of_reference_uid: str
    image_position_patient: tuple[float, ...]
    image_orientation_patient: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    rows: int
    columns: int
    slice_thickness: float | None


class PlaneError(ValueError):
    """A header does not say where its slice lies; the message is one plain sentence."""


def stack_fault(headers: Sequence[Dataset]) -> StackFault | None:
    """Why the images with these headers are not one regular volume; None when they are.

    Parameters
    ----------
    headers
        Datasets of one series, in any order; pixel data may be left out. An enhanced multi-frame image counts with all
        its frames. One slice alone is whole, and so is what has no slices: a structure set, a plan, a report.
        Nothing is raised, whatever the headers hold.
    """
    images = [header for header in headers if text(header, "SOPClassUID") in MODALITY_OF]
    if headers and not images:
        return None
    try:
        planes = [plane for header in without_localizers(images) for plane in planes_of(header)]
    except PlaneError as error:
        return StackFault(FaultKind.INVALID, False, str(error))
    return fault_of(planes)


def without_localizers(headers: Sequence[Dataset]) -> tuple[Dataset, ...]:
    """The headers that are not localizers; where there is nothing else, the first, which alone is whole."""
    slices = tuple(header for header in headers if not is_localizer(header))
    return slices or tuple(headers[:1])


def is_localizer(header: Dataset) -> bool:
    """Whether the image is a scout that plans the scan (PS3.3 C.8.2.1.1.1 Image Type value 3)."""
    return "LOCALIZER" in words(header, "ImageType")[2:3]


def planes_of(header: Dataset) -> tuple[Plane, ...]:
    """The plane of a single-frame image, or of each frame of an enhanced one, in stored order.

    Raises
    ------
    PlaneError
        If an attribute of the plane is absent or makes no sense.
    """
    frames = items(header, "PerFrameFunctionalGroupsSequence")
    if not frames:
        return (_plane(header, header, header, header),)
    shared = next(iter(items(header, "SharedFunctionalGroupsSequence")), Dataset())
    return tuple(
        _plane(
            header,
            functional_group("PlanePositionSequence", frame, shared),
            functional_group("PlaneOrientationSequence", frame, shared),
            functional_group("PixelMeasuresSequence", frame, shared),
        )
        for frame in frames
    )


def functional_group(keyword: str, frame: Dataset, shared: Dataset) -> Dataset:
    """The macro of one frame, or the one that all frames share; empty when neither has it (PS3.3 C.7.6.16)."""
    return next(iter(items(frame, keyword) or items(shared, keyword)), Dataset())


def _plane(image: Dataset, position: Dataset, orientation: Dataset, measures: Dataset) -> Plane:
    rows, columns = whole_number(image, "Rows"), whole_number(image, "Columns")
    if not rows or not columns or rows < 1 or columns < 1:
        raise PlaneError("An image has no usable Rows and Columns")
    spacing = numbers(measures, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        raise PlaneError("An image has no usable Pixel Spacing")
    position_patient = numbers(position, "ImagePositionPatient", 3)
    if position_patient is None:
        raise PlaneError("An image has no usable Image Position (Patient)")
    cosines = numbers(orientation, "ImageOrientationPatient", 6)
    if cosines is None or not _is_orthonormal(cosines):
        raise PlaneError("An image has no usable Image Orientation (Patient)")
    thickness = number(measures, "SliceThickness")
    return Plane(text(image, "FrameOfReferenceUID"), position_patient, cosines, spacing, rows, columns, thickness)


def _is_orthonormal(cosines: Sequence[float]) -> bool:
    along_row, along_column = cosines[:3], cosines[3:]
    products = (
        sum(c * c for c in along_row) - 1,
        sum(c * c for c in along_column) - 1,
        sum(a * b for a, b in zip(along_row, along_column, strict=True)),
    )
    return max(map(abs, products)) <= 2 * ORIENTATION_TOLERANCE


def normal(plane: Plane) -> NDArray[np.float64]:
    """Unit vector of increasing slice position in LPS: row direction x column direction; toward the head for HFS."""
    vector = np.cross(plane.image_orientation_patient[:3], plane.image_orientation_patient[3:])
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)


def distances_mm(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Signed distance of every slice from the origin, along the normal of the first; shape (slices,)."""
    positions = np.array([plane.image_position_patient for plane in planes], dtype=np.float64)
    return np.asarray(positions @ normal(planes[0]), dtype=np.float64)


def fault_of(planes: Sequence[Plane]) -> StackFault | None:
    """Why these planes are not one regular volume; None when they are."""
    if not planes:
        return StackFault(FaultKind.EMPTY, True, "The series has no image")
    return next((fault for check in _CHECKS if (fault := check(planes)) is not None), None)


def _incurable(kind: FaultKind, sentence: str) -> StackFault:
    return StackFault(kind, curable=False, text=sentence)


def _distinct(values: Iterable[object]) -> int:
    return len(set(values))


def _frames_of_reference(planes: Sequence[Plane]) -> StackFault | None:
    count = _distinct(plane.frame_of_reference_uid for plane in planes)
    if count == 1:
        return None
    return _incurable(FaultKind.FRAMES_OF_REFERENCE, f"The series has images of {count} Frames of Reference")


def _matrices(planes: Sequence[Plane]) -> StackFault | None:
    count = _distinct((plane.rows, plane.columns) for plane in planes)
    return None if count == 1 else _incurable(FaultKind.MATRIX, f"The series has images of {count} matrix sizes")


def _pixel_spacings(planes: Sequence[Plane]) -> StackFault | None:
    spread = np.ptp(np.array([plane.pixel_spacing for plane in planes]), axis=0).max()
    if spread <= PIXEL_SPACING_TOLERANCE_MM:
        return None
    return _incurable(FaultKind.PIXEL_SPACING, f"Pixel Spacing varies by {spread:.3g} mm within the series")


def _orientations(planes: Sequence[Plane]) -> StackFault | None:
    spread = np.ptp(np.array([plane.image_orientation_patient for plane in planes]), axis=0).max()
    if spread <= ORIENTATION_TOLERANCE:
        return None
    return _incurable(FaultKind.ORIENTATIONS, "The series has slices of more than one orientation")


def _tilt(planes: Sequence[Plane]) -> StackFault | None:
    positions = np.array([plane.image_position_patient for plane in planes])
    shifts = positions - positions[np.argmin(distances_mm(planes))]
    along = shifts @ normal(planes[0])
    in_plane = np.linalg.norm(shifts - np.outer(along, normal(planes[0])), axis=1)
    excess = in_plane - SHEAR_TOLERANCE_MM - SHEAR_TOLERANCE_SLOPE * along
    if excess.max() <= 0:
        return None
    return _incurable(
        FaultKind.TILT,
        f"The slices are shifted in their plane by up to {in_plane.max():.1f} mm, as a tilted gantry leaves them",
    )


def _duplicates(planes: Sequence[Plane]) -> StackFault | None:
    steps = np.diff(np.sort(distances_mm(planes)))
    count = int(np.count_nonzero(steps < DUPLICATE_TOLERANCE_MM))
    if count == 0:
        return None
    return _incurable(FaultKind.DUPLICATE, f"{count} of {len(planes)} slices lie at the position of another slice")


def _distances(planes: Sequence[Plane]) -> StackFault | None:
    distances = np.sort(distances_mm(planes))
    if len(distances) < 3:
        return None
    even = np.linspace(distances[0], distances[-1], len(distances))
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_STEP * (even[1] - even[0]))
    if np.abs(distances - even).max() <= tolerance:
        return None
    return _uneven(np.diff(distances))


def _uneven(steps_mm: NDArray[np.float64]) -> StackFault:
    """A slice that comes later can lie anywhere, so both kinds can be cured while a series is arriving."""
    multiples = steps_mm / steps_mm.min()
    shortest, longest = steps_mm.min(), steps_mm.max()
    if np.abs(multiples - multiples.round()).max() <= MULTIPLE_TOLERANCE:
        missing = int(multiples.round().sum()) - len(multiples)
        are_missing = "1 slice is missing" if missing == 1 else f"{missing} slices are missing"
        sentence = f"{are_missing}: neighbours are {shortest:.3g} to {longest:.3g} mm apart"
        return StackFault(FaultKind.GAP, True, sentence)
    sentence = f"The distance between slices varies from {shortest:.3g} to {longest:.3g} mm"
    return StackFault(FaultKind.UNEVEN, True, sentence)


_CHECKS: tuple[Callable[[Sequence[Plane]], StackFault | None], ...] = (
    _frames_of_reference,
    _matrices,
    _pixel_spacings,
    _orientations,
    _tilt,
    _duplicates,
    _distances,
)
