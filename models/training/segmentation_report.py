"""The report of an evaluation of a segmentation: a row for each organ of each case, tables, contours in pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from models.engines import has_bf16
from models.inference import nobody
from models.organ_figure import OrganRow, draw_organs
from models.organ_finder import OrganFinder, load_organ_finder
from models.training.card import record_evaluation
from models.training.organ_volumes import OrganVolume
from models.training.progress import Progress, part
from models.training.segmentation import of_split
from models.training.segmentation_evaluation import JudgedCase, judged_cases, mean_dice, organ_table, write_cases
from models.training.volumes import TrainingDataError
from models.weights import card_path

CSV, CSV_WITHOUT_MR, MARKDOWN, PNG = "organs.csv", "organs_without_mr.csv", "segmentation.md", "segmentation.png"
_SHOWN = 6
"""Patients in the picture."""
_FEWEST_PAIRS = 6
"""With fewer the signed-rank test can not tell anything at 5 %."""

_TEXT = """\
{cases} {kind}test patients, never trained on, each on the grid of its own CT{with_mr}; mean ± SD. Only the largest
piece of an organ counts, of a pair two{mirrored}. Mean Dice over the organs: {mean:.3f}.

{table}
"""
_PAIRED = """
CT alone, the same patients:

{table}

With the MR, Dice against CT alone (Wilcoxon signed-rank test over {cases} patients, two-sided, p adjusted after Holm):

{tests}
"""


def evaluate(
    weights: str,
    volumes: Sequence[OrganVolume],
    output: Path,
    mirror: bool = False,
    progress: Progress = nobody,
    record: bool = False,
    is_made_up: bool = False,
) -> Mapping[str, float]:
    """Segment the test patients; write rows, report and picture into `output`; figures by name.

    Where there are MR and the network takes them, CT alone is measured beside, on the same patients.

    Raises
    ------
    TrainingDataError
        If there is no test patient.
    models.weights.WeightsError
        As of `models.organ_finder.load_organ_finder`.
    """
    test = of_split(volumes, "test")
    if not test:
        raise TrainingDataError("there is no test patient with organs")
    model = load_organ_finder(weights, bf16=has_bf16(), mirror=mirror)
    output.mkdir(parents=True, exist_ok=True)
    has_mr = model.takes_mr and all(one.mr_zyx is not None for one in test)
    cases = judged_cases(model, test, part(progress, 0.0, 0.5 if has_mr else 0.95))
    alone = judged_cases(model, test, part(progress, 0.5, 0.95), with_mr=False) if has_mr else []
    write_cases(output / CSV, cases)
    if alone:
        write_cases(output / CSV_WITHOUT_MR, alone)
    draw_organs(_rows(test[:_SHOWN], cases), test[0].organs, output / PNG, model.card.name)
    text = report(model, cases, alone, mirror, is_made_up)
    (output / MARKDOWN).write_text(f"# {model.card.name}\n\n{text}\n![Contours]({PNG})\n", encoding="utf-8")
    found = figures(cases, model.organs)
    if record:
        record_evaluation(card_path(weights), model.card, found, text, of_model=lambda name: True)
    return found


def report(
    model: OrganFinder,
    cases: Sequence[JudgedCase],
    alone: Sequence[JudgedCase],
    mirror: bool,
    is_made_up: bool = False,
) -> str:
    """The tables as Markdown."""
    text = _TEXT.format(
        cases=len(cases),
        kind="made-up " if is_made_up else "",
        with_mr=" with its MR" if alone else "",
        mirrored="; the mirrored image was looked at too" if mirror else "",
        mean=mean_dice(cases, model.organs),
        table=organ_table(cases, model.organs),
    )
    if not alone:
        return text
    tests = paired_table(cases, alone, model.organs)
    return text + _PAIRED.format(table=organ_table(alone, model.organs), cases=len(cases), tests=tests)


def figures(cases: Sequence[JudgedCase], organs: Sequence[str]) -> dict[str, float]:
    """Mean Dice, surface Dice and HD95 of each organ, and the mean Dice over the organs."""
    found = {"mean_dice": mean_dice(cases, organs), "patients": float(len(cases))}
    for organ in organs:
        there = [case.measures[organ] for case in cases if organ in case.measures and case.measures[organ].true_ml > 0]
        if there:
            key = organ.lower()
            found[f"{key}_dice"] = float(np.mean([one.dice for one in there]))
            found[f"{key}_surface_dice_2mm"] = float(np.mean([one.surface_dice for one in there]))
            distances = [one.hd95_mm for one in there if np.isfinite(one.hd95_mm)]
            found[f"{key}_hd95_mm"] = float(np.mean(distances)) if distances else float("nan")
    return found


def paired_table(first: Sequence[JudgedCase], second: Sequence[JudgedCase], organs: Sequence[str]) -> str:
    """Markdown: median difference of Dice and p for each organ; cases are the same patients in the same order."""
    pairs = {
        organ: np.array(
            [
                (one.measures[organ].dice, other.measures[organ].dice)
                for one, other in zip(first, second, strict=True)
                # An organ that was drawn empty has nothing to compare.
                if organ in one.measures and one.measures[organ].true_ml > 0.0
            ]
        ).reshape(-1, 2)
        for organ in organs
    }
    p_values = holm({organ: signed_rank_p(found[:, 0] - found[:, 1]) for organ, found in pairs.items() if len(found)})
    lines = ["| organ | with MR | CT alone | median difference | p |", "|---|---|---|---|---|"]
    for organ, found in pairs.items():
        if len(found):
            means, median = found.mean(axis=0), float(np.median(found[:, 0] - found[:, 1]))
            lines.append(f"| {organ} | {means[0]:.3f} | {means[1]:.3f} | {median:+.3f} | {p_values[organ]:.2g} |")
    return "\n".join(lines)


def signed_rank_p(differences: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; 1 where too few differ to tell anything."""
    if int((differences != 0.0).sum()) < _FEWEST_PAIRS:
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values of several tests adjusted after Holm (Scand J Stat 1979;6:65-70)."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - rank)))
        adjusted[name] = largest
    return adjusted


def _rows(volumes: Sequence[OrganVolume], cases: Sequence[JudgedCase]) -> list[OrganRow]:
    return [
        OrganRow(case.patient_id, one.volume.hu_zyx, one.volume.spacing_zyx_mm, case.labels_zyx, one.labels_zyx)
        for one, case in zip(volumes, cases, strict=False)
    ]
