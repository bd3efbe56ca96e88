"""CT projections in the vendor-neutral format DICOM-CT-PD: CT Image Storage, one view in each instance.

References
----------
DICOM-CT-PD User Manual, version 3 (TCIA, LDCT-and-Projection-data); Chen et al. 2015, doi 10.1118/1.4935406
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from pipelines.base import InputRejected
from pipelines.dicom import projection_elements as pd
from pipelines.dicom.attributes import (
    CT_ACQUISITION,
    EQUIPMENT,
    FRAME_OF_REFERENCE,
    IDENTITY,
    IMAGE,
    PATIENT,
    PIXEL,
    SERIES,
    STUDY,
)
from pipelines.dicom.elements import number, numbers, text
from pipelines.dicom.one_series import check_one_series
from pipelines.dicom.pixels import stored_values
from pipelines.dicom.projection_scan import contradiction, expected_views
from pipelines.dicom.projection_views import VIEW_ELEMENTS, Beam, DetectorShape, View, ViewError, views_of
from pipelines.dicom.reading import read_instance
from pipelines.dicom.writing import copy_elements

LEAST_LINE_INTEGRAL = -1.0
"""Less would be 2.7 times as many photons as without a patient; noise does that below some 20 photons only."""
MOST_LINE_INTEGRAL = 30.0
"""No detector counts the one photon in 10 million million that is left."""
WATER_PER_MM = (0.003, 0.1)
"""Attenuation of water from some 18 keV to 20 MeV; beyond, the number is in another unit."""
MISSING_SHARE = 0.05
"""Largest part of the views that may be missing."""

HEADER_OF_PROJECTIONS = (
    IDENTITY + PATIENT + STUDY + SERIES + FRAME_OF_REFERENCE + EQUIPMENT + IMAGE + CT_ACQUISITION
)  # fmt: skip
"""What is kept of the header of a view."""
_READ = (*HEADER_OF_PROJECTIONS, *PIXEL, *VIEW_ELEMENTS, pd.PHOTONS, pd.LOG_FLAG, "DataCollectionCenterPatient")


@dataclass(frozen=True)
class ProjectionGeometry:
    """How the views of a scan were taken.

    Cylinder coordinates about the axis of rotation, left-handed: z runs from the table into the gantry; seen from the
    table, angle 0 is at 12 o'clock and angles grow counterclockwise, x = -r sin(angle), y = r cos(angle). For a patient
    who lies head first and supine, that makes (x, y, z) in mm point along (+x, -y, +z) of the patient's LPS frame.
    With the detector at 6 o'clock, seen from the table, row 0 is the farthest and column 0 the leftmost one.
    The source is at (r, angle, z) of the focal center plus the shifts.
    """

    beam: Beam
    shape: DetectorShape
    angles_rad: NDArray[np.float64]
    """Of the focal center, for each view. For parallel beams, of the direction from which the rays come."""
    axial_positions_mm: NDArray[np.float64]
    """Of the focal center, for each view."""
    source_isocenter_mm: float
    """From the focal center, in the plane of rotation; infinite for parallel beams."""
    source_detector_mm: float
    """From the focal center to the central element; infinite for parallel beams."""
    column_mm: float
    """Distance of neighbouring columns at the detector, along its arc where it has one."""
    row_mm: float
    central_column: float
    """Index, counted from 0 and with a fraction, of where the line through focal center and isocenter arrives."""
    central_row: float
    angular_shifts_rad: NDArray[np.float64]
    """Of a flying focal spot against the focal center, for each view; so the next two."""
    axial_shifts_mm: NDArray[np.float64]
    radial_shifts_mm: NDArray[np.float64]
    views_per_rotation: int
    """As the header says, of the scan that the views were taken from; 0 where it does not."""
    is_helical: bool
    collection_center_lps_mm: tuple[float, float, float] | None
    """Where the isocenter lies in the Frame of Reference, half way between the first and the last axial position; None
    where no Data Collection Center (Patient) says it."""


@dataclass(frozen=True)
class Projections:
    """One scan."""

    line_integrals: NDArray[np.float32]
    """Indexed [view, detector row, detector column]; of the attenuation along the ray, without a unit."""
    geometry: ProjectionGeometry
    water_attenuation_per_mm: float
    """HU are 1000 (mu - mu_water) / mu_water."""
    photons: NDArray[np.float32] | None
    """Incident photons (noise-equivalent quanta) of a detector element, indexed [view, column]; None if not stated."""
    header: Dataset
    """`HEADER_OF_PROJECTIONS` of the first view: patient, study, Frame of Reference, equipment."""
    sop_instance_uids: tuple[str, ...]
    """Of the views."""
    missing_views: int
    """How many views are announced, or left out between the others, and are not there."""


def read_projections(paths: Iterable[Path]) -> Projections:
    """Read the views of one series; files in any order, views by Instance Number.

    Raises
    ------
    InputRejected
        If a file is broken or no projection, the series mixes patients, studies, Frames of Reference or geometries, its
        geometry is incomplete, two views were taken from one place, angles do not run in one direction, more than
        `MISSING_SHARE` of the views are missing, or pixels can not be line integrals.
    """
    images = [read_instance(path, _READ, pixels=True) for path in paths]
    if not images:
        raise InputRejected("The series has no projection")
    _check_kind(images)
    check_one_series(images)
    try:
        views = views_of(images)
    except ViewError as error:
        raise InputRejected(str(error)) from error
    fault = contradiction(views)
    if fault is not None:
        raise InputRejected(fault.text)
    missing = _missing(images, views)
    ordered = sorted(images, key=lambda image: int(image.InstanceNumber))
    return _assembled(ordered, views, missing)


def _check_kind(images: Sequence[FileDataset]) -> None:
    for image in images:
        if text(image, "SOPClassUID") != CTImageStorage:
            raise InputRejected("A file is not a CT image")
        if pd.private_text(image, pd.LOG_FLAG) == "NO":
            raise InputRejected("The projections are intensities, not line integrals (Log Flag is NO)")


def _missing(images: Sequence[Dataset], views: Sequence[View]) -> int:
    if len(views) < 2:
        raise InputRejected("The series has only one view")
    expected = expected_views(images, views)
    missing = expected - len(views)
    if missing > MISSING_SHARE * expected:
        raise InputRejected(f"{missing} of {expected} views are missing, more than {MISSING_SHARE:.0%}")
    return missing


def _assembled(images: Sequence[FileDataset], views: Sequence[View], missing: int) -> Projections:
    water_per_mm = views[0].numbers[-1]
    if not WATER_PER_MM[0] <= water_per_mm <= WATER_PER_MM[1]:
        raise InputRejected("The Water Attenuation Coefficient is not that of water in 1/mm")
    header = Dataset()
    copy_elements(images[0], header, HEADER_OF_PROJECTIONS)
    return Projections(
        line_integrals=np.stack([_line_integrals(image, view) for image, view in zip(images, views, strict=True)]),
        geometry=_geometry(images, views),
        water_attenuation_per_mm=water_per_mm,
        photons=_photons(images, views[0].size[1]),
        header=header,
        sop_instance_uids=tuple(text(image, "SOPInstanceUID") for image in images),
        missing_views=missing,
    )


def _line_integrals(image: FileDataset, view: View) -> NDArray[np.float32]:
    """Indexed [detector row, detector column]."""
    slope, intercept = number(image, "RescaleSlope"), number(image, "RescaleIntercept")
    if not slope or intercept is None:
        raise InputRejected("A view has no usable Rescale Slope and Intercept")
    stored = stored_values(image)
    if len(stored) != 1:
        raise InputRejected("A view has more than one frame")
    # Python's numbers overflow without a warning.
    ends = [float(end) * slope + intercept for end in (stored.min(), stored.max())]
    if not min(ends) >= LEAST_LINE_INTEGRAL:
        raise InputRejected("A view has negative counts: line integrals that no noise explains")
    if not max(ends) <= MOST_LINE_INTEGRAL:
        raise InputRejected("A view has values that are too large for line integrals")
    values = stored[0] * slope + intercept
    rows, columns = view.size
    return np.asarray(values.T if values.shape == (columns, rows) else values, dtype=np.float32)


def _photons(images: Sequence[Dataset], columns: int) -> NDArray[np.float32] | None:
    found = [pd.private_numbers(image, pd.PHOTONS) for image in images]
    if not any(found):
        return None
    if any(len(photons) != columns for photons in found):
        raise InputRejected("Photon Statistics do not have a value for each detector column of each view")
    photons = np.array(found, dtype=np.float64)
    if not (np.isfinite(photons).all() and photons.min() >= 0 and photons.max() <= np.finfo(np.float32).max):
        raise InputRejected("Photon Statistics hold a value that is no count of photons")
    return photons.astype(np.float32)


def _geometry(images: Sequence[Dataset], views: Sequence[View]) -> ProjectionGeometry:
    isocenter, detector, column_mm, row_mm, central_column, central_row, _ = views[0].numbers
    shifts = np.array([view.shifts for view in views])
    center = numbers(images[0], "DataCollectionCenterPatient", 3)
    return ProjectionGeometry(
        beam=views[0].kind[0],
        shape=views[0].kind[1],
        angles_rad=np.array([view.angle for view in views]),
        axial_positions_mm=np.array([view.axial_position for view in views]),
        source_isocenter_mm=isocenter,
        source_detector_mm=detector,
        column_mm=column_mm,
        row_mm=row_mm,
        central_column=central_column - 1,
        central_row=central_row - 1,
        angular_shifts_rad=shifts[:, 0],
        axial_shifts_mm=shifts[:, 1],
        radial_shifts_mm=shifts[:, 2],
        views_per_rotation=int(pd.private_number(images[0], pd.VIEWS_PER_ROTATION) or 0),
        is_helical=pd.private_text(images[0], pd.SCAN_TYPE) == "HELICAL",
        collection_center_lps_mm=None if center is None else (center[0], center[1], center[2]),
    )
