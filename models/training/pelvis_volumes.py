"""Training volumes of made-up male pelves: CT, MR and organs without a patient behind them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import numpy as np

from models.pelvis_noise import TissuePatch
from models.pelvis_phantom import parametric_pelvis
from models.training.organ_volumes import PELVIS_ORGANS, OrganVolume, organ_volume
from models.training.volumes import Split, TrainingDataError, TrainingVolume

TEST_PATIENTS = 20
_VALIDATION_PATIENTS = 8
_FIRST_VALIDATION, _FIRST_TEST = 500, 1000
"""Numbers of the patients, which are never those of another split."""
_SLICE_MM = (2.0, 5.0)
_PIXEL_MM = (0.9, 3.0)
_HEIGHT_MM = (220.0, 320.0)
_WIDTH_MM = (380.0, 500.0)
_LARGEST_SIDE = 256
"""Voxels; finer pixels see less of the body, as a small reconstruction field does."""


def pelvis_volumes(
    count: int,
    seed: int,
    split: Split,
    textures: Sequence[TissuePatch] = (),
    shape_zyx: tuple[int, int, int] | None = None,
    spacing_zyx_mm: tuple[float, float, float] | None = None,
) -> list[OrganVolume]:
    """Made-up patients with CT, MR and the four organs, each a `pelvis-NNNNNN` of its own.

    Parameters
    ----------
    count
        How many.
    seed
        Number of the first patient; the next ones follow. The same number is the same patient, whatever the split, so
        splits have to be given numbers that do not overlap.
    split
        What all of them are for.
    textures
        Soft tissue of real CT; each patient gets the texture of one of them.
    shape_zyx, spacing_zyx_mm
        The grid of all volumes. Where either is None every patient has another: slices of 2 to 5 mm, pixels of 0.9 to
        3 mm, a field of 220 to 320 mm by 380 to 500 mm, and not more than 256 pixels a side.
    """
    return [
        _volume(
            number,
            split,
            textures,
            None if shape_zyx is None or spacing_zyx_mm is None else (shape_zyx, spacing_zyx_mm),
        )
        for number in range(seed, seed + count)
    ]


def _volume(
    number: int,
    split: Split,
    textures: Sequence[TissuePatch],
    grid: tuple[tuple[int, int, int], tuple[float, float, float]] | None,
) -> OrganVolume:
    # The grid has a generator of its own: a patient is the same person on every grid.
    for_grid, for_patient = np.random.default_rng([number, 0]), np.random.default_rng([number, 1])
    shape, spacing = grid or _drawn_grid(for_grid)
    texture = textures[int(for_grid.integers(len(textures)))] if textures else None
    phantom = parametric_pelvis(shape, spacing, for_patient, texture)
    volume = TrainingVolume(f"pelvis-{number:06d}", split, phantom.hu_zyx, spacing)
    return organ_volume(volume, phantom.masks, PELVIS_ORGANS, phantom.mr_zyx)


def _drawn_grid(rng: np.random.Generator) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    slice_mm, pixel_mm = (round(float(rng.uniform(*limits)), 2) for limits in (_SLICE_MM, _PIXEL_MM))
    height_mm, width_mm = (float(rng.uniform(*limits)) for limits in (_HEIGHT_MM, _WIDTH_MM))
    side = min(_LARGEST_SIDE, round(width_mm / pixel_mm))
    return (round(height_mm / slice_mm), side, side), (slice_mm, pixel_mm, pixel_mm)


def pelvis_cohort(
    training: int, textures: Sequence[TissuePatch] = (), splits: Sequence[Split] = get_args(Split)
) -> Iterator[OrganVolume]:
    """Made-up patients for a whole training: so many to learn from, then those for validation, then those to test on.

    Only those of the splits are made; each is the same whatever others are. Every second one has the texture of a real
    CT, where there are any. Their grids differ.

    Raises
    ------
    TrainingDataError
        If there are more than 500 to learn from: their numbers are those of the others.
    """
    if training > _FIRST_VALIDATION:
        raise TrainingDataError(f"{training} made-up patients are more than {_FIRST_VALIDATION}")
    numbers: Mapping[Split, range] = {
        "train": range(training),
        "validation": range(_FIRST_VALIDATION, _FIRST_VALIDATION + _VALIDATION_PATIENTS),
        "test": range(_FIRST_TEST, _FIRST_TEST + TEST_PATIENTS),
    }
    for split in splits:
        for number in numbers[split]:
            yield from pelvis_volumes(1, number, split, textures if number % 2 else ())
