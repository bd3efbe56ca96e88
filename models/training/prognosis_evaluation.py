"""How a trained model of outcomes fares with patients who had no part in it, beside what it has to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.classification import ClassificationError
from models.outcomes import Outcomes, OutcomesError
from models.prognosis import PrognosisModel
from models.survival.cohort import SurvivalError
from models.training.prognosis import PrognosisTrainingError, chosen_table
from models.training.prognosis_learning import Learning, SetValidation, learning
from models.training.prognosis_report import SCORE_NAMES, said
from models.training.prognosis_sets import FeatureTable, PatientFeatures, feature_tables
from models.training.prognosis_settings import PrognosisTraining

ORACLE = "oracle"


@dataclass(frozen=True)
class EvaluatedCohort:
    """Patients with what became of them."""

    training: Sequence[PatientFeatures]
    """Of whom the baseline learns."""
    test: Sequence[PatientFeatures]
    outcomes: Outcomes
    true_risk: Mapping[str, float]
    """By patient, where patients are made up and it is known; empty else."""


def evaluate_prognosis(
    model: PrognosisModel, cohort: EvaluatedCohort, settings: PrognosisTraining, output: Path
) -> dict[str, float]:
    """Figures by name; a page `evaluation.md` in `output`.

    Raises
    ------
    PrognosisTrainingError
        If there are no test patients with outcome, or they do not suffice.
    """
    known = [one for one in cohort.test if one.patient in cohort.outcomes.of_patient]
    if not known:
        raise PrognosisTrainingError("There is no test patient whose outcome is known")
    try:
        way = learning(cohort.outcomes, settings)
        table = chosen_table(feature_tables(known), model.feature_set)
        found = {model.feature_set: way.scored(table, model.model)}
        if settings.baseline_set and settings.baseline_set != model.feature_set:
            found[settings.baseline_set] = _baseline(way, cohort, known, settings.baseline_set)
        if cohort.true_risk:
            found[ORACLE] = SetValidation(way.score_of_risk(table, cohort.true_risk))
    except (SurvivalError, ClassificationError, OutcomesError) as error:
        raise PrognosisTrainingError(str(error)) from error
    output.mkdir(parents=True, exist_ok=True)
    page = evaluation_text(model, table, cohort.outcomes, found, way.score_name)
    (output / "evaluation.md").write_text(f"# {model.method}\n\n{page}", encoding="utf-8")
    return _figures(found, table, cohort.outcomes, model, way.score_name)


def evaluation_text(
    model: PrognosisModel, table: FeatureTable, outcomes: Outcomes, found: Mapping[str, SetValidation], score: str
) -> str:
    """What was measured, as Markdown."""
    events = int(outcomes.events(table.patients).sum())
    lines = [
        f"{outcomes.statement.name}: {len(table.patients)} test patients, {events} with {outcomes.statement.endpoint}.",
        f"{len(table.patients_without)} lack the features {model.feature_set}.",
        "",
        f"| | {SCORE_NAMES[score]} (95 %) | hazard ratio of the groups (95 %) | PR-AUC (95 %) |",
        "|---|---|---|---|",
    ]
    for name, one in found.items():
        label = f"the model ({name})" if name == model.feature_set else name
        lines.append(f"| {label} | {said(one.score)} | {said(one.hazard_ratio)} | {said(one.pr_auc)} |")
    return "\n".join(lines) + "\n"


def _baseline(
    way: Learning, cohort: EvaluatedCohort, known: Sequence[PatientFeatures], name: str
) -> SetValidation:  # fmt: skip
    """The baseline, learned from the training patients."""
    training = [one for one in cohort.training if one.patient in cohort.outcomes.of_patient]
    everyone = chosen_table(feature_tables([*training, *known]), name)
    model = way.fitted(everyone.of([one.patient for one in training]), way.settings.seed)
    return way.scored(everyone.of([one.patient for one in known]), model)


def _figures(
    found: Mapping[str, SetValidation], table: FeatureTable, outcomes: Outcomes, model: PrognosisModel, score: str
) -> dict[str, float]:
    figures = {"patients": float(len(table.patients)), "events": float(outcomes.events(table.patients).sum())}
    for name, one in found.items():
        prefix = "test" if name == model.feature_set else name
        figures |= {
            f"{prefix}_{score}": one.score.value,
            f"{prefix}_{score}_low": one.score.low,
            f"{prefix}_{score}_high": one.score.high,
        }
        if one.pr_auc is not None:
            figures[f"{prefix}_pr_auc"] = one.pr_auc.value
        if one.hazard_ratio is not None:
            figures[f"{prefix}_hazard_ratio"] = one.hazard_ratio.value
    return figures
