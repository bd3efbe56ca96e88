"""The planning CT on the images of another day: rigid registration of two image series."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.intensity import AIR_HU
from models.placed_image import PlacedImage, field_of_view
from models.rigid_registration import RigidRegistration, described, rigid
from pipelines.base import InputRejected
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.registration import Registration, given_matrix, known_matrix


def registered(
    planning: ImageSeries, target: ImageSeries, registrations: Iterable[Registration] = (), check_inverse: bool = True
) -> RigidRegistration:
    """Where the images put the planning CT: target = matrix @ planning, LPS mm.

    The search also starts from what is known: a shared Frame of Reference, or a registration between the two.

    Raises
    ------
    InputRejected
        If an image shows no body, the bodies do not fit together anywhere, or two registrations disagree.
    """
    start = known_matrix(planning.frame_of_reference_uid, target.frame_of_reference_uid, registrations)
    try:
        return rigid(placed(target), placed(planning), start=start, check_inverse=check_inverse)
    except ValueError as error:
        raise InputRejected(f"The planning CT and the images can not be registered: {error}") from error


def as_given(planning: ImageSeries, target: ImageSeries, registrations: Iterable[Registration]) -> RigidRegistration:
    """What is known without a search, with the figures that say how well the images agree with it.

    Raises
    ------
    InputRejected
        If the Frames of Reference differ and no registration leads from one to the other, two disagree, or an image
        shows no body.
    """
    matrix = given_matrix(planning, target, registrations)
    try:
        return described(placed(target), placed(planning), matrix)
    except ValueError as error:
        raise InputRejected(f"The planning CT and the images can not be compared: {error}") from error


def placed(series: ImageSeries) -> PlacedImage:
    """The series as the models take it: padding is air, and no data where there is any."""
    seen = ~series.padding_zyx if series.padding_zyx.any() else None
    return PlacedImage(series.filled_zyx(AIR_HU), series.volume.affine, seen)


def seen_voxels(day: ImageSeries) -> NDArray[np.bool_]:
    """Where the scanner has data: all that is no padding, or the circle of a cone beam that states none."""
    return ~day.padding_zyx if day.padding_zyx.any() else field_of_view(day.volume.array_zyx)
