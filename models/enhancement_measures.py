"""All that the gate measures of an enhancement, by name: the pipeline, the calibration and the benchmark call this.

Each value grows as the result gets less trustworthy. Where the weights have a witness (`models.witness`), the result is
compared with what that expects of the input, which has the same contrast and hardly any noise; else with the input
itself. Signed changes (what became of fat) are held against what is usual for the model, which its card states.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.block_registration import bend_mm, whole_displacement_zyx_mm
from models.coarse_pair import CoarsePair, coarse_pair
from models.feature_domain import Vector, encoder_features
from models.inference import EnhancementModel
from models.input_faults import metal_ml, soft_tissue_noise_hu, truncated_part
from models.intensity import Mask, body_mask
from models.slice_agreement import mirrored_likeness, misplaced_slice_mm
from models.stability_measures import UNITS as CHANGE_UNITS
from models.stability_measures import Spacing, domain_measures, stability_measures
from models.tissue_agreement import tissue_changes
from models.unexpected import unexpected_measures
from models.unshared_structure import unshared_structure
from models.witness import Expectation, expectation

Window: TypeAlias = tuple[float, float]
"""HU from, to."""

UNITS: Mapping[str, str] = {
    **CHANGE_UNITS,
    "registration_shift_mm": "mm",
    "bend_mm": "mm",
    "structure_lost_hu": "[hnsf'U]",
    "structure_added_hu": "[hnsf'U]",
    "unexpected_detail": "1",
    "unexpected_structure": "1",
    "unexpected_region": "1",
    "mirrored_likeness": "1",
    "misplaced_slice_mm": "mm",
    "fat_departure_hu": "[hnsf'U]",
    "muscle_departure_hu": "[hnsf'U]",
    "bone_departure_hu": "[hnsf'U]",
    "contrast_departure": "1",
    "skin_steepness_departure": "1",
    "input_noise_hu": "[hnsf'U]",
    "metal_ml": "mL",
    "truncated_part": "1",
    "feature_distance": "1",
}
"""UCUM code of every measure, by name."""

_DEPARTURES: Mapping[str, str] = {
    "fat_change_hu": "fat_departure_hu",
    "muscle_change_hu": "muscle_departure_hu",
    "bone_change_hu": "bone_departure_hu",
    "contrast_gain": "contrast_departure",
    "skin_steepness": "skin_steepness_departure",
}
"""Signed change, and the measure that it becomes."""


@dataclass(frozen=True)
class InputMeasured:
    """What is found in the input alone."""

    body: Mask
    measures: Mapping[str, float]
    features: Vector
    """Of the network, as of `models.feature_domain`."""
    said: Expectation | None = None
    """Of the witness; None where the weights have none."""


def enhancement_measures(
    model: EnhancementModel,
    before_hu_zyx: NDArray[Any],
    after_hu_zyx: NDArray[Any],
    spacing_zyx_mm: Spacing,
    window_hu: Window | None = None,
) -> dict[str, float]:
    """Every measure of an output against its input, by name; units as in `UNITS`.

    With a window only HU of the input between these were to change.

    Raises
    ------
    ValueError
        If the two arrays differ in shape.
    """
    given = input_measured(model, before_hu_zyx, spacing_zyx_mm, window_hu)
    changes = output_changes(given, before_hu_zyx, after_hu_zyx, spacing_zyx_mm)
    return {**given.measures, **against_usual(changes, model.card.usual)}


def measures_of_card(
    model: EnhancementModel,
    before_hu_zyx: NDArray[Any],
    after_hu_zyx: NDArray[Any],
    spacing_zyx_mm: Spacing,
    window_hu: Window | None = None,
) -> dict[str, float]:
    """What the card of the model can judge, by name: all measures after a calibration, the first ones before.

    A card that was written before the other measures were knows nothing of them, and would hold every result for it.
    """
    if model.card.usual:
        return enhancement_measures(model, before_hu_zyx, after_hu_zyx, spacing_zyx_mm, window_hu)
    return {
        **domain_measures(model.card.training_domain, before_hu_zyx, spacing_zyx_mm),
        **stability_measures(before_hu_zyx, after_hu_zyx, spacing_zyx_mm),
    }


def input_measured(
    model: EnhancementModel, hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing, window_hu: Window | None = None
) -> InputMeasured:
    """Measures of the input, by name: how far it is from what the model was trained on, and its faults.

    The distance of the features is left out where the model has no domain of them.
    """
    body = body_mask(hu_zyx)
    card = model.card
    features = encoder_features(
        model.generator.get_submodule("encoder"), card.architecture.get("slices", 1), card.window_hu, hu_zyx, body
    )
    distance = {} if model.domain is None else {"feature_distance": model.domain.distance(features)}
    measures = {
        **domain_measures(card.training_domain, hu_zyx, spacing_zyx_mm, body),
        "input_noise_hu": soft_tissue_noise_hu(hu_zyx, body),
        "metal_ml": metal_ml(hu_zyx, body, spacing_zyx_mm),
        "truncated_part": truncated_part(hu_zyx, body),
        **distance,
    }
    said = None if model.witness is None else expectation(model.witness, hu_zyx)
    if said is not None and window_hu is not None:
        said = said.within(window_hu, hu_zyx)
    return InputMeasured(body, measures, features, said)


def output_changes(
    given: InputMeasured, before_hu_zyx: NDArray[Any], after_hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing
) -> dict[str, float]:
    """Measures of output against input, by name; what became of the tissues is signed yet.

    Raises
    ------
    ValueError
        If the two arrays differ in shape.
    """
    changes = stability_measures(before_hu_zyx, after_hu_zyx, spacing_zyx_mm, given.body)
    reference = before_hu_zyx if given.said is None else given.said.expected_hu_zyx
    whole = coarse_pair(reference, after_hu_zyx, given.body, spacing_zyx_mm)
    part = whole.around_body()
    slices = coarse_pair(reference, after_hu_zyx, given.body, spacing_zyx_mm, each_slice=True).around_body()
    return {
        **changes,
        "registration_shift_mm": float(np.linalg.norm(whole_displacement_zyx_mm(part))),
        "bend_mm": bend_mm(part),
        "mirrored_likeness": mirrored_likeness(whole),
        "misplaced_slice_mm": misplaced_slice_mm(slices),
        **tissue_changes(part),
        **_structure(given, after_hu_zyx, spacing_zyx_mm, part),
    }


def _structure(
    given: InputMeasured, after_hu_zyx: NDArray[Any], spacing_zyx_mm: Spacing, part: CoarsePair
) -> dict[str, float]:  # fmt: skip
    """What came or went: beyond what the witness expects, or, without one, that the input does not share."""
    if given.said is not None:
        return unexpected_measures(after_hu_zyx, given.said, given.body, spacing_zyx_mm)
    unshared = unshared_structure(part)
    return {"structure_lost_hu": unshared.lost_hu, "structure_added_hu": unshared.added_hu}


def against_usual(changes: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    """Signed changes as distances to the usual, which is 0 where nobody has measured it; the others as they are."""
    return {
        _DEPARTURES.get(name, name): abs(value - usual.get(name, 0.0)) if name in _DEPARTURES else value
        for name, value in changes.items()
    }


def usual_changes(several: list[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each signed change over those images in which it was found."""
    return {
        name: round(float(np.mean([changes[name] for changes in several if name in changes])), 4)
        for name in _DEPARTURES
        if any(name in changes for changes in several)
    }
