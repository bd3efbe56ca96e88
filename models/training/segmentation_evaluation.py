"""Measure a segmentation on patients that it was not trained on: every organ of every case against what was drawn."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.inference import nobody
from models.organ_finder import OrganFinder
from models.organ_plausibility import plausibility_measures
from models.organ_sides import pieces_of
from models.segmentation import largest_pieces
from models.segmentation_measures import OrganMeasures, measures_by_organ
from models.training.organ_volumes import OrganVolume
from models.training.progress import CountedProgress, Progress

_COLUMNS = ("dice", "surface_dice", "hd95_mm", "mean_surface_distance_mm", "volume_error_percent")


@dataclass(frozen=True)
class JudgedCase:
    """What a model found in one patient."""

    patient_id: str
    measures: Mapping[str, OrganMeasures]
    """Of the organs that were drawn, by name."""
    plausibility: Mapping[str, float]
    """As of `models.organ_plausibility`: what the gate will see of such an image."""
    labels_zyx: NDArray[np.uint8]
    """What was found, on the grid of the CT."""


def judged_cases(
    model: OrganFinder,
    volumes: Sequence[OrganVolume],
    progress: Progress = nobody,
    with_mr: bool = True,
    one_piece: bool = True,
) -> list[JudgedCase]:
    """Segment each volume on its own grid; with its MR where it has one and the network takes it.

    With `one_piece` only the largest piece of each organ counts, as in the pipeline's default.
    """
    done = CountedProgress(len(volumes), "measuring", progress)
    cases = []
    for one in volumes:
        cases.append(_judged(model, one, with_mr, one_piece))
        done()
    return cases


def write_cases(path: Path, cases: Sequence[JudgedCase]) -> None:
    """One row of a CSV file for each organ of each case."""
    rows = [
        {"patient": case.patient_id, "organ": organ, **asdict(measures)}
        for case in cases
        for organ, measures in case.measures.items()
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["patient", "organ"])
        writer.writeheader()
        writer.writerows(rows)


def organ_table(cases: Sequence[JudgedCase], organs: Sequence[str]) -> str:
    """Markdown: of each organ the mean and SD over the cases that have it, and how many were missed altogether.

    Distances of a missed organ are infinite; they are left out of their means and show as missed.
    """
    header = "| organ | cases | missed | Dice | surface Dice 2 mm | HD95, mm | mean distance, mm | volume error, % |"
    rows = [_row(organ, [case.measures[organ] for case in cases if organ in case.measures]) for organ in organs]
    return "\n".join([header, f"|{'---|' * 8}", *rows])


def mean_dice(cases: Sequence[JudgedCase], organs: Sequence[str]) -> float:
    """Mean over the organs of the mean over the cases that have the organ; NaN where none has any."""
    by_organ = [[case.measures[organ].dice for case in cases if organ in case.measures] for organ in organs]
    means = [float(np.nanmean(values)) for values in by_organ if np.isfinite(values).any()]
    return float(np.mean(means)) if means else float("nan")


def _judged(model: OrganFinder, one: OrganVolume, with_mr: bool, one_piece: bool) -> JudgedCase:
    hu, spacing = one.volume.hu_zyx, one.volume.spacing_zyx_mm
    found = model.find(hu, spacing, one.mr_zyx if with_mr and model.takes_mr else None)
    masks = {organ: found.mask(organ) for organ in found.organs}
    kept = {organ: largest_pieces(mask, pieces_of(organ)) if one_piece else mask for organ, mask in masks.items()}
    labels = np.zeros(hu.shape, np.uint8)
    for number, organ in enumerate(one.organs, start=1):
        labels[kept[organ]] = number
    return JudgedCase(
        patient_id=one.volume.patient_id,
        measures=measures_by_organ(kept, one.masks(), spacing),
        plausibility=plausibility_measures(
            model.card, hu, spacing, masks, found.mean_probability, kept, found.look_disagreement
        ),
        labels_zyx=labels,
    )


def _row(organ: str, measures: Sequence[OrganMeasures]) -> str:
    # An organ that was drawn empty has nothing to measure.
    there = [one for one in measures if one.true_ml > 0.0]
    missed = sum(1 for one in there if one.predicted_ml == 0.0)
    figures = [_mean_and_sd([getattr(one, column) for one in there]) for column in _COLUMNS]
    return f"| {organ} | {len(there)} | {missed} | {' | '.join(figures)} |"


def _mean_and_sd(values: Sequence[float]) -> str:
    finite = [value for value in values if np.isfinite(value)]
    return f"{np.mean(finite):.3g} ± {np.std(finite):.2g}" if finite else "-"
