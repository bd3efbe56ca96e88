"""Whether organs that were found in the images lie where those of the planning CT came to lie.

Both are on the grid of the images of the day, found independently of each other: where they differ, either the organ
has changed, or the segmentation or the registration is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.segmentation_measures import organ_measures
from pipelines.dicom.structure_names import standard_name
from pipelines.dicom.volume import Volume


@dataclass(frozen=True)
class OrganAgreement:
    """One organ, found against carried over."""

    organ: str
    """TG-263 name, or what both are called."""
    dice: float
    mean_surface_distance_mm: float
    centroid_shift_lps_mm: tuple[float, float, float]
    """From where it was carried to, to where it was found."""
    volume_ratio: float
    """Found to carried over."""

    @property
    def centroid_shift_mm(self) -> float:
        """Length of the shift."""
        return float(np.linalg.norm(self.centroid_shift_lps_mm))


@dataclass(frozen=True)
class Measured:
    """One figure, ready to be judged."""

    name: str
    """Snake case, with the unit where the value has one: `parotid_l_centroid_shift_mm`."""
    value: float
    unit: str
    """UCUM code; "1" for a plain number."""
    text: str
    """What it is, in a few words."""


def agreement(
    found: Mapping[str, NDArray[np.bool_]], carried: Mapping[str, NDArray[np.bool_]], grid: Volume
) -> tuple[OrganAgreement, ...]:
    """Compare the organs that both have and neither has empty, in the order of `found`.

    Parameters
    ----------
    found, carried
        By name; upper and lower case of TG-263 names are alike. Masks are [slice, row, column].
    grid
        Their grid, for mm and directions.

    Raises
    ------
    ValueError
        If a mask is not on the grid, or two names of one side are the same organ.
    """
    one, other = (by_standard_name(masks, grid) for masks in (found, carried))
    return tuple(_of_organ(name, mask, other[name], grid) for name, mask in one.items() if name in other)


def measured(agreements: tuple[OrganAgreement, ...]) -> tuple[Measured, ...]:
    """The figures of `agreement` by finding name, four for each organ."""
    return tuple(one for organ in agreements for one in _figures(organ))


def _figures(organ: OrganAgreement) -> tuple[Measured, ...]:
    key, what = organ.organ.lower(), f"{organ.organ} found and carried over from the planning CT"
    return (
        Measured(f"{key}_dice", organ.dice, "1", f"Overlap (Dice) of {what}"),
        Measured(f"{key}_mean_surface_distance_mm", organ.mean_surface_distance_mm, "mm", f"Surfaces of {what}"),
        Measured(f"{key}_centroid_shift_mm", organ.centroid_shift_mm, "mm", f"Centres of {what}"),
        Measured(f"{key}_volume_ratio", organ.volume_ratio, "1", f"Ratio of volumes of {what}"),
    )


def by_standard_name(masks: Mapping[str, NDArray[np.bool_]], grid: Volume) -> dict[str, NDArray[np.bool_]]:
    """The masks that have a voxel, [slice, row, column], by TG-263 name where theirs is one.

    Raises
    ------
    ValueError
        If a mask is not on the grid, or two names are the same organ.
    """
    named = [(standard_name(name) or name, grid.with_array(mask).array_zyx) for name, mask in masks.items()]
    if len({name for name, _ in named}) < len(named):
        raise ValueError("two masks are of the same organ")
    return {name: mask for name, mask in named if mask.any()}


def _of_organ(name: str, found: NDArray[np.bool_], carried: NDArray[np.bool_], grid: Volume) -> OrganAgreement:
    measures = organ_measures(found, carried, grid.spacing_zyx_mm)
    x, y, z = (_centroid_lps(found, grid) - _centroid_lps(carried, grid)).tolist()
    return OrganAgreement(
        organ=name,
        dice=measures.dice,
        mean_surface_distance_mm=measures.mean_surface_distance_mm,
        centroid_shift_lps_mm=(x, y, z),
        volume_ratio=measures.predicted_ml / measures.true_ml,
    )


def _centroid_lps(mask: NDArray[np.bool_], grid: Volume) -> NDArray[np.float64]:
    center_zyx = np.argwhere(mask).mean(axis=0)
    return np.asarray(grid.points_lps(center_zyx[None, ::-1])[0])
