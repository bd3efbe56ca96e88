"""Projections as DICOM-CT-PD: arrays and their geometry to CT Image Storage instances, one for each view.

Type of Projection Geometry is FANBEAM for all diverging beams, as in the public library, and PARALLELBEAM for parallel
ones (see `projection_views`). The Image Plane of a view is no plane of the patient; because a CT Image must have one,
it is an axial one through the isocenter, at the axial position of the view: towards the head as that grows, towards the
feet where Patient Position says that they went first.

References
----------
PS3.3 A.3 CT Image IOD; DICOM-CT-PD User Manual, version 3 (TCIA, LDCT-and-Projection-data)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from pipelines.base import PipelineError
from pipelines.dicom import projection_elements as pd
from pipelines.dicom.attributes import CT_ACQUISITION, EQUIPMENT, IMAGE, PATIENT, SERIES, STUDY
from pipelines.dicom.companion import decimal_strings, put_frame_of_reference
from pipelines.dicom.derived import TYPE_2, settle_laterality
from pipelines.dicom.elements import text
from pipelines.dicom.projection_views import Beam
from pipelines.dicom.projections import LEAST_LINE_INTEGRAL, MOST_LINE_INTEGRAL, ProjectionGeometry, Projections
from pipelines.dicom.writing import copy_elements, put, put_empty_where_absent
from pipelines.provenance import hashed_uid

_MOST_STORED = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True)
class NewSeries:
    """What makes written projections a series of their own."""

    series_instance_uid: str
    series_number: int
    series_description: str


def projection_instances(projections: Projections, series: NewSeries) -> tuple[Dataset, ...]:
    """One CT Image Storage dataset for each view, in their order; the same arguments make the same datasets.

    Patient, study, Frame of Reference, equipment and dates are those of `projections.header`; its SOP Instance UIDs are
    not taken over. Values are kept to half of 1/65535 of their range. Images in Acquisition announces the views, with
    those that are missing.

    Raises
    ------
    PipelineError
        If a value is not finite or can not be a line integral.
    """
    stored, slope, intercept = _stored(projections.line_integrals)
    common = _common(projections, series, slope, intercept)
    return tuple(_view(common, projections, index, plane) for index, plane in enumerate(stored))


def _stored(line_integrals: NDArray[np.float32]) -> tuple[NDArray[np.uint16], str, str]:
    """Stored values [view, column, row], Rescale Slope and Intercept, the same for all views."""
    low, high = float(line_integrals.min()), float(line_integrals.max())
    if not (low >= LEAST_LINE_INTEGRAL and high <= MOST_LINE_INTEGRAL):
        raise PipelineError("The projections hold values that are no line integrals")
    intercept = f"{min(low, 0.0):.8e}"
    slope = f"{max(high - float(intercept), 1e-3) / _MOST_STORED:.8e}"
    scaled = (line_integrals.astype(np.float64) - float(intercept)) / float(slope)
    stored = np.clip(np.rint(scaled), 0, _MOST_STORED).astype(np.uint16)
    return stored.transpose(0, 2, 1), slope, intercept


def _common(projections: Projections, series: NewSeries, slope: str, intercept: str) -> Dataset:
    """What all views share."""
    header, common = projections.header, Dataset()
    copy_elements(header, common, PATIENT + STUDY + SERIES + EQUIPMENT + IMAGE + CT_ACQUISITION)
    put_empty_where_absent(common, (*TYPE_2, "Manufacturer"))
    settle_laterality(common)
    put_frame_of_reference(common, header)
    common.SOPClassUID, common.Modality = CTImageStorage, "CT"
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.SeriesInstanceUID, common.SeriesNumber = series.series_instance_uid, series.series_number
    put(common, "SeriesDescription", series.series_description)
    common.ImagesInAcquisition = len(projections.line_integrals) + projections.missing_views
    _put_pixel_format(common, projections, slope, intercept)
    _put_detector(common, projections)
    _put_scan(common, projections)
    return common


def _put_pixel_format(common: Dataset, projections: Projections, slope: str, intercept: str) -> None:
    geometry = projections.geometry
    _, common.Columns, common.Rows = projections.line_integrals.shape
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    common.BitsAllocated, common.BitsStored, common.HighBit, common.PixelRepresentation = 16, 16, 15, 0
    common.RescaleIntercept, common.RescaleSlope, common.RescaleType = intercept, slope, "US"
    common.PixelSpacing = decimal_strings((geometry.column_mm, geometry.row_mm), 6)
    common.ImageOrientationPatient = decimal_strings((1, 0, 0, 0, 1, 0), 0)


def _put_detector(common: Dataset, projections: Projections) -> None:
    geometry = projections.geometry
    _, rows, columns = projections.line_integrals.shape
    pd.put_private(common, pd.DETECTOR_ROWS, rows)
    pd.put_private(common, pd.DETECTOR_COLUMNS, columns)
    pd.put_private(common, pd.COLUMN_SPACING, geometry.column_mm)
    pd.put_private(common, pd.ROW_SPACING, geometry.row_mm)
    pd.put_private(common, pd.DETECTOR_SHAPE, geometry.shape.value)
    pd.put_private(common, pd.CENTRAL_ELEMENT, [geometry.central_column + 1, geometry.central_row + 1])
    if geometry.beam is not Beam.PARALLEL:
        pd.put_private(common, pd.SOURCE_ISOCENTER, geometry.source_isocenter_mm)
        pd.put_private(common, pd.SOURCE_DETECTOR, geometry.source_detector_mm)


def _put_scan(common: Dataset, projections: Projections) -> None:
    geometry = projections.geometry
    pd.put_private(common, pd.BEAM, geometry.beam.value)
    pd.put_private(common, pd.SCAN_TYPE, "HELICAL" if geometry.is_helical else "AXIAL")
    pd.put_private(common, pd.FLYING_FOCAL_SPOT, _focal_spot(geometry))
    if geometry.views_per_rotation:
        pd.put_private(common, pd.VIEWS_PER_ROTATION, geometry.views_per_rotation)
    pd.put_private(common, pd.LOG_FLAG, "YES")
    pd.put_private(common, pd.WATER_ATTENUATION, f"{projections.water_attenuation_per_mm:.9e}")
    if geometry.collection_center_lps_mm is not None:
        common.DataCollectionCenterPatient = list(geometry.collection_center_lps_mm)


def _focal_spot(geometry: ProjectionGeometry) -> str:
    in_plane = geometry.angular_shifts_rad.any() or geometry.radial_shifts_mm.any()
    axes = ("XY" if in_plane else "") + ("Z" if geometry.axial_shifts_mm.any() else "")
    return f"FFS{axes or 'NONE'}"


def _view(common: Dataset, projections: Projections, index: int, plane: NDArray[np.uint16]) -> Dataset:
    geometry, view = projections.geometry, Dataset()
    view.update(common)
    view.SOPInstanceUID = hashed_uid([str(common.SeriesInstanceUID), index])
    view.InstanceNumber = index + 1
    view.ImagePositionPatient = decimal_strings(_position_mm(projections, index))
    pd.put_private(view, pd.ANGLE, float(geometry.angles_rad[index]))
    pd.put_private(view, pd.AXIAL_POSITION, float(geometry.axial_positions_mm[index]))
    pd.put_private(view, pd.ANGULAR_SHIFT, float(geometry.angular_shifts_rad[index]))
    pd.put_private(view, pd.AXIAL_SHIFT, float(geometry.axial_shifts_mm[index]))
    pd.put_private(view, pd.RADIAL_SHIFT, float(geometry.radial_shifts_mm[index]))
    if projections.photons is not None:
        pd.put_private(view, pd.PHOTONS, projections.photons[index])
    view.add_new("PixelData", "OW", plane.astype("<u2").tobytes())
    return view


def _position_mm(projections: Projections, index: int) -> tuple[float, float, float]:
    axial = projections.geometry.axial_positions_mm
    towards_head = -1.0 if text(projections.header, "PatientPosition").startswith("FF") else 1.0
    middle = float(axial.min() + axial.max()) / 2
    x, y, z = projections.geometry.collection_center_lps_mm or (0.0, 0.0, towards_head * middle)
    return x, y, z + towards_head * (float(axial[index]) - middle)
