"""How a patient lies in the gantry, by Patient Position (PS3.3 C.7.3.1.1.2).

The gantry's frame is that of `dicom.projections`: z into the gantry, x to the right and y upwards as seen from the
table. An image in it is indexed [slice, row, column] with slices along z, rows downwards and columns along x; in the
patient, slices go to the head, rows to posterior and columns to the left.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.base import InputRejected
from pipelines.dicom.elements import text

REVERSED_AXES: dict[str, tuple[int, ...]] = {"HFS": (), "FFS": (0, 2), "HFP": (1, 2), "FFP": (0, 1)}
"""Which axes of an image run the other way in the gantry than in the patient."""


def reversed_axes(header: Dataset) -> tuple[int, ...]:
    """Axes (slice, row, column) that run the other way in the gantry than in the patient of this header.

    Raises
    ------
    InputRejected
        If the patient does not lie on the back or the belly, with head or feet first, or it is not said.
    """
    position = text(header, "PatientPosition").upper()
    if position not in REVERSED_AXES:
        raise InputRejected(f"Patient Position is {position or 'absent'}, and not one of {', '.join(REVERSED_AXES)}")
    return REVERSED_AXES[position]


def directions_lps(header: Dataset) -> NDArray[np.float64]:
    """Unit vectors of the gantry's columns, rows and slices in the patient: the columns of a 3 x 3 matrix, LPS.

    Raises
    ------
    InputRejected
        As `reversed_axes`.
    """
    signs = np.ones(3)
    signs[list(reversed_axes(header))] = -1.0
    return np.diag(signs[::-1])
