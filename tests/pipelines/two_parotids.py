"""A patient whose two parotids are balls at known places in mm, however he lay, and weights that find them by their HU.

Nothing here is read or placed by code under test: a voxel is in a ball if its centre is, in the patient's LPS frame.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from models.organ_finder import OwnNetwork
from models.organ_plausibility import POLICY, UNITS
from models.unet import Segmenter
from models.weights import Card, SegmentationTask, load_card, write_card
from pipelines.base import Outcome
from tests.models.segmenters import TASK, by_hu, saved_segmenter
from tests.pipelines.made import COLUMN_MM, ROW_MM, SLICE_MM, oriented_series
from tests.pipelines.organs_made import POSITIONS

SHAPE = (20, 48, 64)
BALLS: Mapping[str, tuple[tuple[float, float, float], float]] = {
    "Parotid_L": ((19.0, 4.0, -5.0), 13.0),
    "Parotid_R": ((-21.0, -6.0, 7.0), 11.0),
}
"""Centre in LPS mm and radius in mm."""
HU = {"Parotid_L": 500, "Parotid_R": 1000}
BODY_RADIUS_MM = 42.0
OBLIQUE = (1.0, 0.0, 0.0, 0.0, 0.96, 0.28)
"""Image Orientation (Patient) of slices that lean by 16 degrees."""
SWAPPED = {"HFDR"}
"""Positions in which rows run along the patient's front."""
MEASURES = (
    "pixel_spacing_outside_mm",
    "slice_spacing_outside_mm",
    "body_mean_departure_sd",
    "height_missing_mm",
    "organs_not_found",
    "organ_doubt",
    "stray_part",
    "volume_outside_part",
)
"""That a card has limits of."""

assert set(MEASURES) < set(UNITS) and not set(MEASURES) & set(POLICY)


def centres_lps_mm(orientation: tuple[float, ...], slices: int = SHAPE[0]) -> NDArray[np.float64]:
    """(slice, row, column, 3): where the centre of each voxel lies; the middle of the grid is the origin."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    steps = (np.cross(row, column) * SLICE_MM, column * ROW_MM, row * COLUMN_MM)
    shape = (slices, *SHAPE[1:])
    places: NDArray[np.float64] = sum(
        (np.arange(n) - (n - 1) / 2).reshape([-1 if axis == one else 1 for one in range(3)] + [1]) * step
        for axis, (n, step) in enumerate(zip(shape, steps, strict=True))
    )  # type: ignore[assignment]
    return places


def ball(organ: str, orientation: tuple[float, ...], slices: int = SHAPE[0]) -> NDArray[np.bool_]:
    """The voxels of one parotid."""
    centre, radius_mm = BALLS[organ]
    return np.asarray(np.linalg.norm(centres_lps_mm(orientation, slices) - centre, axis=-1) <= radius_mm)


def truth(position: str = "HFS", slices: int = SHAPE[0]) -> dict[str, NDArray[np.bool_]]:
    """Both parotids, as the series of that Patient Position holds them."""
    return {organ: ball(organ, POSITIONS[position], slices) for organ in BALLS}


def stored(orientation: tuple[float, ...], slices: int = SHAPE[0]) -> NDArray[np.int16]:
    """HU of a cylinder of water with the two balls in it, in air."""
    places = centres_lps_mm(orientation, slices)
    hu = np.where(np.hypot(places[..., 0], places[..., 1]) <= BODY_RADIUS_MM, 0, -1000)
    for organ in BALLS:
        hu[ball(organ, orientation, slices)] = HU[organ]
    return hu.astype(np.int16)


def placed(
    array_zyx: NDArray[Any], orientation: tuple[float, ...], shift_mm: tuple[float, ...] = (0, 0, 0)
) -> list[Dataset]:  # fmt: skip
    """A CT series of these values, its middle at `shift_mm`."""
    first = centres_lps_mm(orientation, len(array_zyx))[0, 0, 0]
    return oriented_series(array_zyx, orientation, first + np.array(shift_mm))


def ct(position: str = "HFS", slices: int = SHAPE[0]) -> list[Dataset]:
    """The patient in one of `POSITIONS`."""
    series = placed(stored(POSITIONS[position], slices), POSITIONS[position])
    for one in series:
        one.PatientPosition = position
    return series


def task(position: str = "HFS", **changes: Any) -> SegmentationTask:
    """At the spacing of the images, so that what is found is exact."""
    in_plane = (COLUMN_MM, ROW_MM) if position in SWAPPED else (ROW_MM, COLUMN_MM)
    return TASK.model_copy(update={"spacing_zyx_mm": (SLICE_MM, *in_plane), "patch_zyx": (16, 32, 32), **changes})


def with_limits(weights: str, limit: float | None = 1e6, **card: Any) -> str:
    """The card with such a limit for every measure, or none at all."""
    limits = {} if limit is None else {name: {"flag_above": limit, "hold_above": limit} for name in MEASURES}
    changed = Card.model_validate({**load_card(weights).model_dump(), "limits": limits, **card})
    write_card(Path(weights).with_suffix(".md"), changed)
    return weights


def weights_in(folder: Path, position: str = "HFS", limit: float | None = 1e6, **changes: Any) -> str:
    """A weights file, of whose network only the card is used."""
    return with_limits(saved_segmenter(folder, task(position, **changes)), limit)


def finder_of(weights: str, network: Any = None) -> OwnNetwork:
    """What finds organ 1 from 250 to 750 HU and organ 2 above, or another network, with card and task of `weights`."""
    card = load_card(weights)
    assert card.segmentation is not None
    model: Segmenter = by_hu(_aside(weights), card.segmentation)
    return OwnNetwork(replace(model, card=card, network=network or model.network))


def folder_in(folder: Path, name: str) -> Path:
    """A folder below another one; made where it is absent."""
    made = folder / name
    made.mkdir(exist_ok=True)
    return made


def of_class(outcome: Outcome, sop_class_uid: str) -> Dataset:
    """The only new dataset of that kind."""
    (found,) = [one for series in outcome.series for one in series if one.SOPClassUID == sop_class_uid]
    return found


def _aside(weights: str) -> Path:
    return folder_in(Path(weights).parent, "aside")
