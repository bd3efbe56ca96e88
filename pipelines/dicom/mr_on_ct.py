"""An MR on the grid of the CT that it goes with."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.rigid_motion import resampled
from pipelines.base import InputRejected
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.registration import Registration, known_matrix

OUTSIDE = 0.0
"""Where the MR ends; an MR has no value that means air, and 0 is what its background is near."""


def mr_on_ct(mr: ImageSeries, ct: ImageSeries, registrations: Iterable[Registration] = ()) -> NDArray[np.float32]:
    """Values of the MR at the voxels of the CT, linear between its own; no unit.

    The MR lies where its Frame of Reference says, or a registration that leads from it to that of the CT: nothing is
    registered here.

    Raises
    ------
    InputRejected
        If the two are of different patients, or no Frame of Reference or registration ties them, or two registrations
        disagree.
    """
    ids = {text(series.header, "PatientID") for series in (mr, ct)}
    # As `check_one_patient` does: of one modality a hospital has the issuer, of the next it has not.
    issuers = {text(series.header, "IssuerOfPatientID") for series in (mr, ct)} - {""}
    if len(ids) > 1 or len(issuers) > 1:
        raise InputRejected("The MR and the CT are not of one patient")
    matrix = known_matrix(mr.frame_of_reference_uid, ct.frame_of_reference_uid, registrations)
    if matrix is None:
        raise InputRejected(
            "The MR is in another Frame of Reference than the CT, and no registration leads from it there"
        )
    shape = ct.volume.array_zyx.shape
    return resampled(mr.filled_zyx(OUTSIDE), mr.volume.affine, shape, ct.volume.affine, matrix, OUTSIDE)
