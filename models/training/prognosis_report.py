"""What a training of a model of outcomes found: table, figure, and the figures in its card."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.outcomes import SIMULATED
from models.prognosis import PrognosisModel
from models.prognosis_figure import draw_group
from models.survival.interval import Interval
from models.training.prognosis_learning import SetValidation
from models.training.prognosis_sets import FeatureTable
from models.training.prognosis_settings import PrognosisTraining

SCORE_NAMES: Mapping[str, str] = {"c_index": "C-index", "roc_auc": "ROC-AUC"}
_HEAD = (
    "| set | patients | features | {score} (95 %) | log-rank p | p, corrected | hazard ratio (95 %) | PR-AUC (95 %) |"
)
_CARD = """\
# {name}

{first}

{text}

## Metrics

{cohort}. {repeats} times {folds} folds, with scaling, selection and the penalty inside; features that are not defined
for every patient, or do not repeat, are left out. The set of the model was chosen beforehand: **{chosen}**.
{permuted}

{table}
{groups}"""
_OF_GROUPS = """
The log-rank p is of groups that were made across folds, and corrected after Holm for the number of sets; the p of
permuted outcomes is the one to believe.
"""
_PERMUTED = "With outcomes dealt out at random it does as well with p = {p:.3g} ({permutations} permutations)."


@dataclass(frozen=True)
class TrainedSets:
    """Every set of features, and how it fared."""

    tables: Mapping[str, FeatureTable]
    validated: Mapping[str, SetValidation]
    corrected_p: Mapping[str, float]
    settings: PrognosisTraining
    score_name: str


def write_training_report(path: Path, model: PrognosisModel, found: TrainedSets, text: str) -> str:
    """Write table (.csv) and figure (.png) beside the model; returns the text of its card."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(path.with_suffix(".csv"), found)
    draw_training(path.with_suffix(".png"), model, found)
    p = model.held_out.get("permutation_p")
    return _CARD.format(
        name=path.stem,
        first=f"**{SIMULATED}**" if model.cohort.is_simulated else f"Trained on {model.cohort.patients} patients.",
        text=text.strip(),
        cohort=model.cohort.sentence(),
        repeats=found.settings.repeats,
        folds=found.settings.folds,
        chosen=model.feature_set,
        permuted="" if p is None else _PERMUTED.format(p=p, permutations=found.settings.permutations),
        table=_table(found),
        groups=_OF_GROUPS if found.corrected_p else "",
    )


def draw_training(png: Path, model: PrognosisModel, found: TrainedSets) -> None:
    """Scores of all sets with their intervals; beside them the curves of the groups, or the probabilities."""
    figure = Figure(figsize=(12, max(4.0, 1.2 + 0.3 * len(found.validated))), layout="constrained")
    FigureCanvasAgg(figure)
    scores, outcome = figure.subplots(1, 2)
    for place, (name, one) in enumerate(reversed(list(found.validated.items()))):
        colour = "tab:red" if name == model.feature_set else "tab:blue"
        scores.plot([one.score.low, one.score.high], [place, place], color=colour)
        scores.plot(one.score.value, place, "o", color=colour)
    scores.set_yticks(range(len(found.validated)), list(reversed(list(found.validated))))
    scores.axvline(0.5, color="grey", linestyle=":")
    scores.set_xlabel(f"{SCORE_NAMES[found.score_name]} of patients that the models had not seen, 95 % interval")
    for curve in model.curves:
        draw_group(outcome, curve)
    if model.curves:
        outcome.set(xlabel=f"time in {model.time_unit}", ylabel=f"without {model.cohort.endpoint}", ylim=(0.0, 1.02))
        outcome.legend()
    else:
        _draw_probabilities(outcome, model)
    if model.cohort.is_simulated:
        figure.suptitle(SIMULATED)
    figure.savefig(png, dpi=110)


def _draw_probabilities(axes: Axes, model: PrognosisModel) -> None:
    for has_outcome, colour in ((False, "tab:blue"), (True, "tab:red")):
        values = [probability for probability, had in model.probabilities if had is has_outcome]
        label = f"{'with' if has_outcome else 'without'} {model.cohort.endpoint}: {len(values)}"
        axes.hist(values, range=(0.0, 1.0), bins=20, color=colour, alpha=0.5, label=label)
    axes.axvline(model.high_above, color="black", linestyle=":")
    axes.set(xlabel="probability by models that had not seen the patient", ylabel="patients")
    axes.legend()


def said(interval: Interval | None) -> str:
    """`0.71 (0.62 to 0.80)`; empty for none."""
    return "" if interval is None else f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _number(value: float) -> str:
    return "" if value != value else f"{value:.2g}"


def _table(found: TrainedSets) -> str:
    head = _HEAD.format(score=SCORE_NAMES[found.score_name])
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for name, table in found.tables.items():
        if name not in found.validated:
            lines.append(f"| {name} | {len(table.patients)} | 0 |  |  |  |  |  |")
            continue
        one, corrected = found.validated[name], found.corrected_p.get(name, float("nan"))
        cells = (said(one.score), _number(one.log_rank_p), _number(corrected), said(one.hazard_ratio), said(one.pr_auc))
        lines.append(f"| {name} | {len(table.patients)} | {len(table.names)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _write_csv(path: Path, found: TrainedSets) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("set", "patients", "features", found.score_name, "low", "high", "log_rank_p", "corrected_p"))
        for name, one in found.validated.items():
            table, score = found.tables[name], one.score
            p = one.log_rank_p, found.corrected_p.get(name, float("nan"))
            rows.writerow((name, len(table.patients), len(table.names), score.value, score.low, score.high, *p))
