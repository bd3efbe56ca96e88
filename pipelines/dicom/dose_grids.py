"""Doses on other grids, and doses added up."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.dose_samples import DoseGrid
from pipelines.base import InputRejected
from pipelines.dicom.dose import Dose
from pipelines.dicom.volume import Volume

_PARTS = frozenset({"BEAM", "BEAM_SESSION", "CONTROL_POINT", "FRACTION", "FRACTION_SESSION"})
"""Dose Summation Types of doses that are parts of the dose of one plan (PS3.3 C.8.8.3)."""
Box: TypeAlias = tuple[slice, ...]


def dose_grid(dose: Dose) -> DoseGrid:
    """What models take for a dose."""
    return DoseGrid(dose.volume.array_zyx, dose.volume.affine)


def dose_on(dose: Dose, grid: Volume) -> Volume:
    """The dose on another grid of the same Frame of Reference, Gy, interpolated linearly; NaN outside of the dose.

    A dose is known to the faces of its outermost voxels. Values between voxels do not pass the highest of them, as a
    spline would let them, so a hot spot keeps its height.
    """
    return grid.with_array(_interpolated(dose, grid))


def summed(doses: Sequence[Dose]) -> Dose:
    """Doses added up on the grid of the first, cut to what all of them cover: outside, a sum would lack a part.

    Nothing calls this on its own: which doses belong together only the plan knows.

    Raises
    ------
    InputRejected
        If there is none, their Frames of Reference or Dose Types differ, one plan would be counted twice, or they
        cover no common box of the first grid.
    """
    if not doses:
        raise InputRejected("There is no dose to add up")
    _check_together(doses)
    first, *others = doses
    if not others:
        return first
    total = first.volume.array_zyx + sum(_interpolated(other, first.volume) for other in others)
    box = _covered(np.isfinite(total))
    affine = first.volume.affine.copy()
    affine[:3, 3] = first.volume.points_lps(np.array([[side.start for side in box[::-1]]], np.float64))[0]
    plans = {dose.rt_plan_uid for dose in doses}
    return replace(
        first,
        volume=Volume(total[box], affine),
        dose_summation_type="PLAN" if len(plans) == 1 else "MULTI_PLAN",
        rt_plan_uid=first.rt_plan_uid if len(plans) == 1 else "",
    )


def _interpolated(dose: Dose, grid: Volume) -> NDArray[np.float64]:
    source = dose_grid(dose)
    _, rows, columns = grid.array_zyx.shape
    found = np.empty((len(grid.array_zyx), rows, columns))
    plane = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")).reshape(2, -1)
    # A plane at a time, as the indices of a whole image are six times as large as the image.
    for index, into in enumerate(found):
        indices = source.indices_zyx(np.stack([np.full(plane.shape[1], index), *plane]).astype(np.float64), grid.affine)
        into[:] = np.where(source.held(indices), source.at(indices), np.nan).reshape(rows, columns)
    return found


def _check_together(doses: Sequence[Dose]) -> None:
    if len({dose.frame_of_reference_uid for dose in doses}) > 1:
        raise InputRejected("The doses have different Frames of Reference")
    if len({dose.dose_type for dose in doses}) > 1:
        raise InputRejected("A physical dose and an effective one can not be added up")
    kinds: dict[str, list[str]] = {}
    for dose in doses:
        kinds.setdefault(dose.rt_plan_uid, []).append(dose.dose_summation_type)
    for plan, types in kinds.items():
        # Doses without a plan may be anything; of one plan only parts of one kind add up to the whole.
        if plan and len(types) > 1 and not (len(set(types)) == 1 and types[0] in _PARTS):
            raise InputRejected("Two of the doses are of one plan, which would be counted twice")


def _covered(known: NDArray[np.bool_]) -> Box:
    found = ndimage.find_objects(known.astype(np.int8))
    if not found or not known[found[0]].all():
        raise InputRejected("The doses cover no common box of the first dose grid")
    box: Box = found[0]
    return box
