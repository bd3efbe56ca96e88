"""The private elements of DICOM-CT-PD: their tags and VRs, read whatever VR they came with, and written.

Private elements lose their VR on the way through a sender that uses Implicit VR and does not know them; the receiver
then has bytes (UN). These bytes are little endian, and the table says what they are.

References
----------
DICOM-CT-PD User Manual, version 3 (TCIA, LDCT-and-Projection-data); Chen et al. 2015, doi 10.1118/1.4935406;
Moen et al. 2021, doi 10.1002/mp.14594, Table IV
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.tag import Tag

from pipelines.dicom.elements import MALFORMED

COLUMN_SPACING = "70291002"
"""Detector Element Transverse Spacing: width of a detector column, at the detector, mm."""
ROW_SPACING = "70291006"
"""Detector Element Axial Spacing: width of a detector row, at the detector, mm."""
DETECTOR_SHAPE = "7029100B"
"""CYLINDRICAL, SPHERICAL or FLAT."""
DETECTOR_ROWS = "70291010"
DETECTOR_COLUMNS = "70291011"
ANGLE = "70311001"
"""Detector Focal Center Angular Position, rad."""
AXIAL_POSITION = "70311002"
"""Detector Focal Center Axial Position, mm."""
SOURCE_ISOCENTER = "70311003"
"""Detector Focal Center Radial Distance: from the isocenter, in the plane of rotation, mm."""
SOURCE_DETECTOR = "70311031"
"""Constant Radial Distance: from the focal center to the central element, mm."""
CENTRAL_ELEMENT = "70311033"
"""Detector Central Element: column and row that the line through focal center and isocenter meets, counted from 1."""
ANGULAR_SHIFT = "7033100B"
"""Source Angular Position Shift, of a flying focal spot against the focal center, rad."""
AXIAL_SHIFT = "7033100C"
"""Source Axial Position Shift, mm."""
RADIAL_SHIFT = "7033100D"
"""Source Radial Distance Shift, mm."""
FLYING_FOCAL_SPOT = "7033100E"
"""FFSNONE, FFSZ, FFSXY or FFSXYZ."""
VIEWS_PER_ROTATION = "70331013"
"""Number of Source Angular Steps: projections of one full rotation."""
SPECTRUM = "70331063"
"""Spectrum Index: which source, voltage, detector layer or energy bin."""
PHOTONS = "70331065"
"""Photon Statistics: incident photons (noise-equivalent quanta) for each detector column."""
SCAN_TYPE = "70371009"
"""Type of Projection Data: AXIAL or HELICAL."""
BEAM = "7037100A"
"""Type of Projection Geometry: FANBEAM for the geometry of third-generation scanners, however many their rows."""
LOG_FLAG = "70391009"
"""YES where the logarithm has been taken, so that pixels are line integrals."""
WATER_ATTENUATION = "70411001"
"""Water Attenuation Coefficient, 1/mm; HU are 1000 (mu - mu_water) / mu_water."""

VR_OF: dict[str, str] = {
    COLUMN_SPACING: "FL",
    ROW_SPACING: "FL",
    DETECTOR_SHAPE: "CS",
    DETECTOR_ROWS: "US",
    DETECTOR_COLUMNS: "US",
    ANGLE: "FL",
    AXIAL_POSITION: "FL",
    SOURCE_ISOCENTER: "FL",
    SOURCE_DETECTOR: "FL",
    CENTRAL_ELEMENT: "FL",
    ANGULAR_SHIFT: "FL",
    AXIAL_SHIFT: "FL",
    RADIAL_SHIFT: "FL",
    FLYING_FOCAL_SPOT: "CS",
    VIEWS_PER_ROTATION: "US",
    SPECTRUM: "US",
    PHOTONS: "FL",
    SCAN_TYPE: "CS",
    BEAM: "CS",
    LOG_FLAG: "CS",
    WATER_ATTENUATION: "DS",
}
"""By tag; as in the dictionary that comes with the manual."""

NAME_OF: dict[str, str] = {
    COLUMN_SPACING: "Detector Element Transverse Spacing",
    ROW_SPACING: "Detector Element Axial Spacing",
    DETECTOR_ROWS: "Number of Detector Rows",
    DETECTOR_COLUMNS: "Number of Detector Columns",
    ANGLE: "Detector Focal Center Angular Position",
    AXIAL_POSITION: "Detector Focal Center Axial Position",
    SOURCE_ISOCENTER: "Detector Focal Center Radial Distance",
    SOURCE_DETECTOR: "Constant Radial Distance",
    CENTRAL_ELEMENT: "Detector Central Element",
    ANGULAR_SHIFT: "Source Angular Position Shift",
    AXIAL_SHIFT: "Source Axial Position Shift",
    RADIAL_SHIFT: "Source Radial Distance Shift",
    WATER_ATTENUATION: "Water Attenuation Coefficient",
}
"""What a sentence calls an element that a view must have."""

_CREATORS = {
    0x7029: "DetectorSystemArrangementModule",
    0x7031: "DetectorDynamicsModule",
    0x7033: "SourceDynamicsModule",
    0x7037: "ProjectionDataDefinitions",
    0x7039: "PreprocessingFlagsModule",
    0x7041: "WaterAttenuationModule",
}
"""Written as Private Creator of block 10, which PS3.5 7.8.1 demands; the names of (gggg,0010) in the dictionary."""
_STORED_AS = {"FL": "<f4", "US": "<u2"}


def private_numbers(dataset: Dataset, tag: str) -> tuple[float, ...]:
    """The values of a numeric element; empty when it is absent or malformed. Not checked to be finite."""
    try:
        value = dataset.get(Tag(tag))
        value = value.value if isinstance(value, DataElement) else value
        if value is None or value == "" or value == b"":
            return ()
        if isinstance(value, bytes):
            return _decoded(value, VR_OF[tag])
        several = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
        return tuple(float(one) for one in several)
    except MALFORMED:
        return ()


def private_number(dataset: Dataset, tag: str) -> float | None:
    """One finite number; None when the element is absent, malformed or has several."""
    values = private_numbers(dataset, tag)
    return values[0] if len(values) == 1 and bool(np.isfinite(values[0])) else None


def private_text(dataset: Dataset, tag: str) -> str:
    """A code string, in upper case; empty when absent or malformed."""
    try:
        value = dataset.get(Tag(tag))
        value = value.value if isinstance(value, DataElement) else value
        text = value.decode("ascii") if isinstance(value, bytes) else str(value or "")
    except MALFORMED:
        return ""
    return text.strip(" \0").upper()


def put_private(dataset: Dataset, tag: str, value: float | str | Sequence[float] | NDArray[np.floating]) -> None:
    """Set an element, and the Private Creator of its block."""
    group = Tag(tag).group
    dataset.add_new(Tag(group, 0x0010), "LO", _CREATORS[group])
    plain = value.tolist() if isinstance(value, np.ndarray) else value
    dataset.add(DataElement(Tag(tag), VR_OF[tag], plain, validation_mode=IGNORE))


def _decoded(encoded: bytes, vr: str) -> tuple[float, ...]:
    if vr in _STORED_AS:
        return tuple(np.frombuffer(encoded, _STORED_AS[vr]).astype(np.float64).tolist())
    return tuple(float(part) for part in encoded.decode("ascii").strip(" \0").split("\\"))
