"""One projection (DICOM-CT-PD): where its source and detector were, from its header alone. One instance is one view.

Parallel beams: DICOM-CT-PD knows diverging beams only. A parallel series is marked by PARALLELBEAM as Type of
Projection Geometry, which the manual does not have, and carries no distance from the source to isocenter and detector:
whoever does not know the mark finds no geometry, rather than a wrong one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from pipelines.dicom import projection_elements as pd
from pipelines.dicom.elements import text, whole_number

MOST = 1e6
"""Larger numbers are no angle in rad and no length in mm."""


class Beam(StrEnum):
    """How rays run; the values are those of Type of Projection Geometry."""

    DIVERGING = "FANBEAM"
    """From a point, on one row or several."""
    PARALLEL = "PARALLELBEAM"


class DetectorShape(StrEnum):
    """Along a row; columns are straight. Spherical detectors are not read."""

    CYLINDRICAL = "CYLINDRICAL"
    """An arc about the focal center."""
    FLAT = "FLAT"


VIEW_ELEMENTS = (
    "InstanceNumber",
    "PatientPosition",
    "FrameOfReferenceUID",
    "ImagesInAcquisition",
    "NumberOfSeriesRelatedInstances",
    "Rows",
    "Columns",
    pd.COLUMN_SPACING,
    pd.ROW_SPACING,
    pd.DETECTOR_SHAPE,
    pd.DETECTOR_ROWS,
    pd.DETECTOR_COLUMNS,
    pd.ANGLE,
    pd.AXIAL_POSITION,
    pd.SOURCE_ISOCENTER,
    pd.SOURCE_DETECTOR,
    pd.CENTRAL_ELEMENT,
    pd.ANGULAR_SHIFT,
    pd.AXIAL_SHIFT,
    pd.RADIAL_SHIFT,
    pd.FLYING_FOCAL_SPOT,
    pd.VIEWS_PER_ROTATION,
    pd.SPECTRUM,
    pd.SCAN_TYPE,
    pd.BEAM,
    pd.WATER_ATTENUATION,
)
"""What is read here, by keyword or as eight hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class View:
    """Geometry of one projection. Angles in rad, lengths in mm."""

    instance_number: int
    angle: float
    axial_position: float
    shifts: tuple[float, float, float]
    """Of a flying focal spot against the focal center: angle (rad), along the axis (mm), away from it (mm)."""
    size: tuple[int, int]
    """Detector rows and columns."""
    kind: tuple[Beam, DetectorShape]
    numbers: tuple[float, ...]
    """What has to be the same in all views: distances from the source to isocenter and detector (infinite for parallel
    beams), column and row spacing, central column and row (counted from 1), water attenuation (1/mm)."""
    belongs: tuple[str, str, float]
    """Frame of Reference UID, Patient Position, Spectrum Index."""


class ViewError(ValueError):
    """A header does not say how its view was taken; the message is one plain sentence."""


def views_of(headers: Sequence[Dataset]) -> tuple[View, ...]:
    """The views by ascending Instance Number.

    Raises
    ------
    ViewError
        If an element of the geometry is absent or makes no sense.
    """
    return tuple(sorted((_view(header) for header in headers), key=lambda view: view.instance_number))


def _view(header: Dataset) -> View:
    number = whole_number(header, "InstanceNumber")
    if number is None:
        raise ViewError("A view has no usable Instance Number")
    kind = _kind(header)
    size = _size(header)
    return View(
        instance_number=number,
        angle=_required(header, pd.ANGLE),
        axial_position=_required(header, pd.AXIAL_POSITION),
        shifts=_shifts(header),
        size=size,
        kind=kind,
        numbers=(*_distances(header, kind[0]), *_detector(header), _positive(header, pd.WATER_ATTENUATION)),
        belongs=(
            text(header, "FrameOfReferenceUID"),
            text(header, "PatientPosition"),
            pd.private_number(header, pd.SPECTRUM) or 0.0,
        ),
    )


def _kind(header: Dataset) -> tuple[Beam, DetectorShape]:
    beam, shape = pd.private_text(header, pd.BEAM), pd.private_text(header, pd.DETECTOR_SHAPE)
    if beam not in ("", "FANBEAM", "CONEBEAM", Beam.PARALLEL):
        raise ViewError("Type of Projection Geometry is neither FANBEAM nor PARALLELBEAM")
    if shape not in tuple(DetectorShape):
        raise ViewError("Detector Shape is neither CYLINDRICAL nor FLAT")
    if beam == Beam.PARALLEL and shape != DetectorShape.FLAT:
        raise ViewError("Parallel beams have no detector that is not flat")
    return Beam.PARALLEL if beam == Beam.PARALLEL else Beam.DIVERGING, DetectorShape(shape)


def _size(header: Dataset) -> tuple[int, int]:
    """Detector rows and columns. The pixel matrix has them transposed, in the files of the public library."""
    rows, columns = (int(_positive(header, tag)) for tag in (pd.DETECTOR_ROWS, pd.DETECTOR_COLUMNS))
    matrix = (whole_number(header, "Rows"), whole_number(header, "Columns"))
    if matrix not in ((columns, rows), (rows, columns)):
        raise ViewError("The pixel matrix of a view is not that of the detector that its header describes")
    return rows, columns


def _distances(header: Dataset, beam: Beam) -> tuple[float, float]:
    if beam is Beam.PARALLEL:
        return np.inf, np.inf
    isocenter, detector = _positive(header, pd.SOURCE_ISOCENTER), _positive(header, pd.SOURCE_DETECTOR)
    if detector <= isocenter:
        raise ViewError("The detector of a view lies before the isocenter")
    return isocenter, detector


def _detector(header: Dataset) -> tuple[float, float, float, float]:
    central = pd.private_numbers(header, pd.CENTRAL_ELEMENT)
    if len(central) != 2 or not max(map(abs, central)) <= MOST:
        raise ViewError(_unusable(pd.CENTRAL_ELEMENT))
    return _positive(header, pd.COLUMN_SPACING), _positive(header, pd.ROW_SPACING), *central


def _shifts(header: Dataset) -> tuple[float, float, float]:
    angular, axial, radial = (_shift(header, tag) for tag in (pd.ANGULAR_SHIFT, pd.AXIAL_SHIFT, pd.RADIAL_SHIFT))
    return angular, axial, radial


def _shift(header: Dataset, tag: str) -> float:
    is_flying = pd.private_text(header, pd.FLYING_FOCAL_SPOT) not in ("", "FFSNONE")
    return _required(header, tag) if is_flying or Tag(tag) in header else 0.0


def _required(header: Dataset, tag: str) -> float:
    value = pd.private_number(header, tag)
    if value is None or abs(value) > MOST:
        raise ViewError(_unusable(tag))
    return value


def _positive(header: Dataset, tag: str) -> float:
    value = _required(header, tag)
    if value <= 0:
        raise ViewError(_unusable(tag))
    return value


def _unusable(tag: str) -> str:
    return f"A view has no usable {pd.NAME_OF[tag]} ({tag[:4]},{tag[4:]})"
