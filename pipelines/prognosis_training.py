"""Training and evaluation of a prognosis pipeline on research collections with outcomes.

What a pipeline computes of a patient in `run` is what is computed here, by the same function. It takes seconds to
minutes for a patient, so it is kept in the output folder; another way of computing, or other images, are computed anew.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models.prognosis import extraction_sha256, load_prognosis, prognosis_paths
from models.stored_numbers import write_numbers_card
from models.training.prognosis import PrognosisTask, PrognosisTrainingError, train_prognosis
from models.training.prognosis_evaluation import EvaluatedCohort, evaluate_prognosis
from models.training.prognosis_sets import PatientFeatures
from models.training.prognosis_settings import PrognosisTraining
from pipelines.base import InputRejected, PipelineError, Progress, TrainingOptions
from pipelines.outcomes import CollectedPatient, collected_patients, read_outcomes, read_truth
from pipelines.provenance import product_version

_EXTRACTION_SHARE = 0.6
_FEATURES = TypeAdapter(PatientFeatures)
_RECORDED = "\n## Test patients\n"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrognosisWork:
    """What training and evaluation have to know of a pipeline."""

    method: str
    """Name of the pipeline."""
    weights: str
    """Name or path of the model, as in the settings."""
    extraction: Mapping[str, Any]
    """How features are computed, as JSON."""
    of_patient: Callable[[CollectedPatient], PatientFeatures]
    """Raises InputRejected where a patient can not be used."""
    training: Mapping[str, Any]
    """Settings of `PrognosisTraining`, from the pipeline's file."""
    card_text: str
    """Sections of the card: intended use, data, limits, licence."""
    left_out: frozenset[str] = frozenset()


def train(work: PrognosisWork, data: Path, output: Path, options: TrainingOptions, progress: Progress) -> Path:
    """Train on the train and validation patients; returns the path of the model.

    Raises
    ------
    PipelineError
        If settings, patients or outcomes can not be used.
    """
    settings = training_settings(work.training, options)
    outcomes = read_outcomes(data)
    patients = [one for one in collected_patients(data) if one.split != "test" and one.patient in outcomes.of_patient]
    features = patient_features(work, patients, output, _part(progress, 0.0, _EXTRACTION_SHARE))
    path = output / f"{Path(work.weights).stem}.json"
    task = PrognosisTask(work.method, work.extraction, work.card_text, work.left_out)
    try:
        train_prognosis(features, outcomes, task, settings, path, _part(progress, _EXTRACTION_SHARE, 1.0))
    except PrognosisTrainingError as error:
        raise PipelineError(str(error)) from error
    return path


def evaluate(
    work: PrognosisWork, data: Path, output: Path, progress: Progress, comparators: bool = True, record: bool = False
) -> dict[str, float]:
    """Measure on the test patients; with `comparators` the baseline too; with `record` the card is told.

    Raises
    ------
    PipelineError
        If the model computes other features, or patients or outcomes can not be used.
    """
    card, model = load_prognosis(work.weights)
    if extraction_sha256(model.extraction) != extraction_sha256(work.extraction):
        raise PipelineError(f"The features of {work.weights} were computed otherwise than this pipeline does it")
    settings = training_settings(work.training, TrainingOptions())
    if not comparators:
        settings = settings.model_copy(update={"baseline_set": None})
    outcomes, patients = read_outcomes(data), collected_patients(data)
    wanted = [one for one in patients if one.patient in outcomes.of_patient and (one.split == "test" or comparators)]
    features = patient_features(work, wanted, output, _part(progress, 0.0, 0.9))
    tested = {one.patient for one in wanted if one.split == "test"}
    cohort = EvaluatedCohort(
        training=[one for one in features if one.patient not in tested],
        test=[one for one in features if one.patient in tested],
        outcomes=outcomes,
        true_risk=read_truth(data) if outcomes.statement.is_simulated else {},
    )
    try:
        figures = evaluate_prognosis(model, cohort, settings, output)
    except PrognosisTrainingError as error:
        raise PipelineError(str(error)) from error
    if record:
        page = (output / "evaluation.md").read_text(encoding="utf-8").split("\n\n", 1)[1]
        text = f"{card.text.split(_RECORDED)[0].rstrip()}\n{_RECORDED}\n{page}"
        metrics = {**card.metrics, **{name: float(f"{value:.4g}") for name, value in figures.items()}}
        recorded = card.model_copy(update={"text": text, "metrics": metrics})
        write_numbers_card(prognosis_paths(work.weights)[1], recorded)
    return figures


def training_settings(stated: Mapping[str, Any], options: TrainingOptions) -> PrognosisTraining:
    """Settings of the pipeline's file, of the options' file, and of the options, the last going before the first.

    Raises
    ------
    PipelineError
        If one is unknown or of the wrong type.
    """
    chosen = {} if options.seed is None else {"seed": options.seed}
    try:
        return PrognosisTraining.model_validate({**stated, **options.settings, **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        raise PipelineError(f"training setting {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def patient_features(
    work: PrognosisWork, patients: Sequence[CollectedPatient], output: Path, progress: Progress
) -> list[PatientFeatures]:
    """Of every patient who can be used; who can not is left out and logged.

    Raises
    ------
    PipelineError
        If nobody can be used.
    """
    folder = output / "features"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[PatientFeatures] = []
    refused: list[str] = []
    for number, patient in enumerate(patients, start=1):
        try:
            found.append(_kept(work, patient, folder))
        except InputRejected as error:
            log.warning("patient left out", extra={"patient": patient.patient, "reason": str(error)})
            refused.append(str(error))
        progress(number / len(patients), f"features of {number} patients")
    if not found:
        raise PipelineError(f"No patient can be used{f', the first because: {refused[0]}' if refused else ''}")
    return found


def _kept(work: PrognosisWork, patient: CollectedPatient, folder: Path) -> PatientFeatures:
    path = folder / f"{_key(work, patient)}.json"
    try:
        return _FEATURES.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        pass
    found = work.of_patient(patient)
    path.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def _key(work: PrognosisWork, patient: CollectedPatient) -> str:
    """Of the way of computing, and of every series in its revision."""
    series = sorted((one.role, one.series_instance_uid, one.revision, one.instances) for one in patient.entries)
    identity = [product_version(), work.method, extraction_sha256(work.extraction), patient.patient, series]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _part(progress: Progress, start: float, stop: float) -> Progress:
    return lambda done, what: progress(start + (stop - start) * done, what)
