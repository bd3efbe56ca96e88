"""How plausible the organs are that a network found in one image: each measure grows as they get less trustworthy.

The gate compares these values with limits from the model card, so the name of a measure is also its key in the card.
None of them needs the truth; all of them are facts of one image and of what was found in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.input_faults import metal_part, soft_tissue_noise_hu, truncated_part
from models.intensity import Mask, body_mask
from models.limits import Limits
from models.organ_alignment import alignment, organ_hu, organ_hu_departure_sd, organ_misfit_sd, organ_shift_sd
from models.organ_places import missing_organ_part
from models.organ_sides import pieces_of
from models.organ_surroundings import surfaces
from models.segmentation import largest_pieces
from models.stability_measures import UNITS as DOMAIN_UNITS
from models.stability_measures import Spacing, domain_measures
from models.weights import Card

UNITS: Mapping[str, str] = {
    **DOMAIN_UNITS,
    "height_missing_mm": "mm",
    "organs_not_found": "1",
    "organ_doubt": "1",
    "stray_part": "1",
    "volume_outside_part": "1",
    "sides_swapped": "1",
    "missing_organ_part": "1",
    "piece_apart_ml": "mL",
    "look_disagreement": "1",
    "organ_shift_sd": "1",
    "organ_misfit_sd": "1",
    "organ_hu_departure_sd": "1",
    "input_noise_hu": "[hnsf'U]",
    "metal_part": "1",
    "truncated_part": "1",
}
"""UCUM code of every measure, by name."""

POLICY: Mapping[str, Limits] = {
    "sides_swapped": Limits(flag_above=0.0, hold_above=0.0),
    "missing_organ_part": Limits(flag_above=0.0, hold_above=0.5),
}
"""Limits that no card has: a left organ on the right is wrong whatever training patients look like, and so is the lack
of an organ more than half of which must be in the scan."""


def plausibility_measures(
    card: Card,
    hu_zyx: NDArray[Any],
    spacing_zyx_mm: Spacing,
    masks: Mapping[str, Mask],
    mean_probability: Mapping[str, float],
    kept: Mapping[str, Mask] | None = None,
    look_disagreement: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """All measures by name.

    Parameters
    ----------
    card
        Of the weights that found the organs.
    hu_zyx, spacing_zyx_mm
        The image: slices towards the head, rows to posterior, columns to the patient's left.
    masks
        The organs that are wanted, by TG-263 name, as they were found; empty where one was not.
    mean_probability
        By organ, as of `models.segmentation.Segmentation`.
    kept
        What is kept of the masks and written, the largest piece for one; None: all.
    look_disagreement
        By organ, as of `models.segmentation.Segmentation`; of the wanted ones the worst counts.
    """
    written = masks if kept is None else kept
    found = {organ: mask for organ, mask in masks.items() if mask.any()}
    body = body_mask(hu_zyx)
    voxel_ml = float(np.prod(spacing_zyx_mm)) / 1000.0
    millilitres = {organ: float(mask.sum()) * voxel_ml for organ, mask in written.items() if mask.any()}
    return {
        **domain_measures(card.training_domain, hu_zyx, spacing_zyx_mm, body),
        "height_missing_mm": height_missing_mm(card, len(hu_zyx) * spacing_zyx_mm[0]),
        "organs_not_found": float(len(written) - len(millilitres)),
        "organ_doubt": max((1.0 - mean_probability[organ] for organ in found), default=1.0),
        "stray_part": max((stray_part(mask, pieces_of(organ)) for organ, mask in found.items()), default=0.0),
        "volume_outside_part": max(
            (outside_part(volume, card.organ_ml.get(organ)) for organ, volume in millilitres.items()), default=0.0
        ),
        "sides_swapped": float(sides_swapped({organ: written[organ] for organ in millilitres})),
        **(_against_usual(card, hu_zyx, spacing_zyx_mm, written, body) if card.usual else {}),
        **(_disagreement(masks, look_disagreement) if card.usual and look_disagreement is not None else {}),
    }


def _disagreement(wanted: Mapping[str, Mask], by_organ: Mapping[str, float]) -> dict[str, float]:
    return {"look_disagreement": max((by_organ[organ] for organ in wanted if organ in by_organ), default=0.0)}


def _against_usual(
    card: Card, hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing, written: Mapping[str, Mask], body: Mask
) -> dict[str, float]:
    """What only a card can judge that was calibrated; one that was not would hold every result for these."""
    found = {organ: mask for organ, mask in written.items() if mask.any()}
    lie = alignment(surfaces(hu_zyx, found, spacing_zyx_mm), card.organ_surroundings_hu)
    measures = {
        "organ_shift_sd": None if lie is None else organ_shift_sd(lie, card.usual),
        "organ_misfit_sd": None if lie is None else organ_misfit_sd(lie, card.usual),
        "organ_hu_departure_sd": organ_hu_departure_sd(hu_zyx, found, card.usual),
    }
    return {
        "missing_organ_part": missing_organ_part(written, body, spacing_zyx_mm, card.organ_places_mm),
        "piece_apart_ml": max(
            (piece_apart_ml(mask, spacing_zyx_mm, pieces_of(organ)) for organ, mask in found.items()), default=0.0
        ),
        **{name: value for name, value in measures.items() if value is not None},
        "input_noise_hu": soft_tissue_noise_hu(hu_zyx, body),
        "metal_part": metal_part(hu_zyx, body),
        "truncated_part": truncated_part(hu_zyx, body),
    }


def usual_organ_hu(several: Sequence[tuple[NDArray[Any], Mapping[str, Mask]]]) -> dict[str, float]:
    """Mean and SD over images of the HU of what was found in them, of organs that were found at least twice.

    Names are the organ in small letters with `_hu` and `_hu_sd`.
    """
    hu = [organ_hu(image, masks) for image, masks in several]
    names = dict.fromkeys(name for one in hu for name in one)
    values = {name: [one[name] for one in hu if name in one] for name in names}
    means = {name: round(float(np.mean(all_)), 2) for name, all_ in values.items() if len(all_) > 1}
    spreads = {f"{name}_sd": round(float(np.std(values[name], ddof=1)), 2) for name in means}
    return {**means, **spreads}


def height_missing_mm(card: Card, height_mm: float) -> float:
    """By how much the scan is shorter than the shortest training scan, mm; 0 where that is not known."""
    known = card.training_domain.height_mm
    return 0.0 if known is None else max(known[0] - height_mm, 0.0)


def stray_part(mask: Mask, pieces: int = 1) -> float:
    """Part of the voxels that do not hang together with the largest piece, or with so many of them."""
    return 1.0 - float(largest_pieces(mask, pieces).sum()) / float(mask.sum())


def piece_apart_ml(mask: Mask, spacing_zyx_mm: Spacing, pieces: int = 1) -> float:
    """Volume of what does not hang together with the largest piece, or with so many of them, mL."""
    apart = int(mask.sum()) - int(largest_pieces(mask, pieces).sum())
    return apart * float(np.prod(spacing_zyx_mm)) / 1000.0


def outside_part(volume_ml: float, usual_ml: tuple[float, float] | None) -> float:
    """By which part of itself the nearer end of the usual range is passed; 0 inside of it or where none is known."""
    if usual_ml is None:
        return 0.0
    smallest, largest = usual_ml
    return max(smallest / volume_ml - 1.0, volume_ml / max(largest, 1e-9) - 1.0, 0.0)


def sides_swapped(found: Mapping[str, Mask]) -> int:
    """How many left organs lie to the right of their right ones; columns run to the patient's left."""
    pairs = [(organ, f"{organ[:-2]}_R") for organ in found if organ.endswith("_L")]
    return sum(_column(found[left]) < _column(found[right]) for left, right in pairs if right in found)


def _column(mask: Mask) -> float:
    """Of the centre."""
    profile = mask.sum(axis=(0, 1))
    return float((profile * np.arange(len(profile))).sum() / profile.sum())
