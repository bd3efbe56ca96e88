"""Prognosis from how the tumour changes over the images of a course of treatment (delta-radiomics)."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator
from pydicom.uid import UID, Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.delta_features import TimePoint, lacking
from models.inference import load_generator
from models.prognosis import (
    Prediction,
    PrognosisError,
    PrognosisModel,
    extraction_sha256,
    load_prognosis,
    predicted,
)
from models.stored_numbers import NumbersCard
from models.training.prognosis_sets import PatientFeatures
from models.weights import WeightsError, load_card
from pipelines import prognosis_training
from pipelines.base import (
    Inputs,
    Need,
    Outcome,
    Pipeline,
    PipelineError,
    Progress,
    Tie,
    TrainingOptions,
    no_progress,
)
from pipelines.course_features import CourseExtraction, CourseFeatures, CourseReader, CourseSources
from pipelines.course_measures import UNITS, WHAT
from pipelines.course_report import CourseReport, course_documents
from pipelines.course_stability import unstable_features
from pipelines.outcomes import CollectedPatient, collected_patients
from pipelines.prognosis_training import PrognosisWork
from pipelines.provenance import provenance
from pipelines.stability import Finding

DISTANCE = "feature_distance"


class DeltaRadiomics(Pipeline):
    """Features of the GTV over the fractions, their changes, and what a model of other patients says of them."""

    needs: ClassVar[Mapping[str, Need]] = {
        # Two are enough to see that one can not be chosen.
        "planning_ct": Need(at_most=2),
        "structure_set": Need(at_most=2),
        "cbct": Need(at_least=0, at_most=None, tied=Tie.PATIENT, earlier=True),
        "registration": Need(at_least=0, at_most=None),
        # Those of later days say nothing of this course so far, and would make every report anew.
        "treatment_record": Need(at_least=0, at_most=None, tied=Tie.PATIENT, earlier=True),
    }
    produces: ClassVar[frozenset[UID]] = frozenset({Comprehensive3DSRStorage, EncapsulatedPDFStorage})
    # Its own report says what was found.
    reports_quality: ClassVar[bool] = False

    weights: str
    """Name of a shipped model, or path of a `.json` file with its card beside it."""
    extraction: CourseExtraction = CourseExtraction()
    """How features are computed; a model is refused that was trained with others."""
    enhancement: str | None = None
    """Weights that enhance the images, where `extraction` says `images: enhanced`."""
    structure_names: Mapping[str, str] = {}
    """TG-263 names by the ROI names of the site."""
    training: Mapping[str, Any] = {}
    """Settings of `models.training.prognosis_settings`, for `rtnode train`; no result depends on them."""
    stability_patients: int = 10
    """Training patients on whom the features are tried with other outlines and noise; unstable ones are left out."""

    @model_validator(mode="after")
    def _names_what_enhances(self) -> "DeltaRadiomics":
        if (self.enhancement is None) is (self.extraction.images == "enhanced"):
            raise ValueError("enhancement: weights belong to `images: enhanced`, and only to it")
        return self

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the model and of the weights that enhance the images.

        Raises
        ------
        models.weights.WeightsError
            If either is absent or altered, or the model was trained with features that were computed otherwise.
        """
        card, _ = self._model()
        return (card.sha256, *((load_card(self.enhancement).sha256,) if self.enhancement else ()))

    def settings_sha256(self) -> str:
        """Digest of what decides a result: all settings but those of training, and the weights."""
        identity = self.model_dump(mode="json", exclude={"training", "stability_patients"})
        kind = f"{type(self).__module__}:{type(self).__qualname__}"
        return hashlib.sha256(json.dumps([kind, identity, self.weights_sha256()], sort_keys=True).encode()).hexdigest()

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Report on the course up to the triggering image."""
        card, model = self._model()
        sources = _sources_of(inputs)
        found = self._reader().read(sources, lambda done, what: progress(0.9 * done, what))
        prediction, reason = self._predicted(model, found)
        findings = tuple(self._findings(model, found, prediction))
        report = CourseReport(
            course=found,
            model=model,
            weights_name=card.name,
            weights_sha256=card.sha256,
            prediction=prediction,
            remarks=(*([reason] if reason else []), *found.remarks),
            findings=findings,
            other_evidence=(*sources.registrations, *sources.treatment_records),
        )
        documents = course_documents(report, provenance(self, inputs), inputs.predecessors)
        return Outcome(series=tuple((one,) for one in documents), findings=findings)

    def train(self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress) -> Path:
        """Train on the patients of the research collections below `data` whose outcome is known."""
        training = [one for one in collected_patients(data) if one.split != "test"]
        unstable = unstable_features(self._reader(), map(_sources_in, training), self.stability_patients, output)
        progress(0.1, "stability of the features")
        work = self.work(unstable)
        return prognosis_training.train(
            work, data, output, options, lambda done, what: progress(0.1 + 0.9 * done, what)
        )

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Measure the model on the test patients of the research collections below `data`."""
        try:
            return prognosis_training.evaluate(self.work(), data, output, progress, comparators, record)
        except WeightsError as error:
            raise PipelineError(str(error)) from error

    def work(self, left_out: frozenset[str] = frozenset()) -> PrognosisWork:
        """What training and evaluation have to know, with the features that are not to be learned from."""
        return PrognosisWork(
            method=self.name,
            weights=self.weights,
            extraction=self._extraction(),
            of_patient=self._of_patient,
            training=self.training,
            card_text=CARD,
            left_out=left_out,
        )

    def _of_patient(self, patient: CollectedPatient) -> PatientFeatures:
        found = self._reader().read(_sources_in(patient))
        return PatientFeatures(patient.patient, found.sets, found.measures)

    def _extraction(self) -> dict[str, Any]:
        """How features are computed, with the digest of the network that images go through before."""
        network = load_card(self.enhancement).sha256 if self.enhancement else None
        return {**self.extraction.model_dump(mode="json"), "enhancement_sha256": network}

    def _model(self) -> tuple[NumbersCard, PrognosisModel]:
        card, model = load_prognosis(self.weights)
        if extraction_sha256(model.extraction) != extraction_sha256(self._extraction()):
            raise WeightsError(f"{self.weights} was trained with features that were computed otherwise")
        return card, model

    def _reader(self) -> CourseReader:
        synonyms = {name.strip().lower(): standard for name, standard in self.structure_names.items()}
        network = load_generator(self.enhancement) if self.enhancement else None
        return CourseReader(self.extraction, synonyms, network)

    def _findings(
        self, model: PrognosisModel, found: CourseFeatures, prediction: Prediction | None
    ) -> Iterator[Finding]:
        measures = dict(found.measures) if prediction is None else {**found.measures, DISTANCE: prediction.distance}
        for name, value in measures.items():
            yield self.stability.judged(name, value, UNITS.get(name, "1"), model.limits.get(name), WHAT[name])

    def _predicted(self, model: PrognosisModel, found: CourseFeatures) -> tuple[Prediction | None, str]:
        """What the model says, or why it can say nothing."""
        if model.feature_set not in found.sets:
            points = lacking(model.feature_set, found.positions)
            return None, f"No risk can be told yet: no image stands for {_named(points)} of the course"
        try:
            return predicted(model, found.sets[model.feature_set]), ""
        except PrognosisError as error:
            return None, f"No risk can be told: {error}"


CARD = """## Intended use

Research on whether changes of a tumour on the cone-beam CT of a course of radiotherapy tell how a patient will fare.
The features are those of the GTV of the planning CT, carried over to each image by a rigid registration. Not for
treatment.

## Data

The patients of the cohort that is named below: planning CT, structure set with the GTV, and images of the fractions.

## Limits

The tumour is looked for where it was planned: its outline does not follow it. Images of another machine, protocol or
reconstruction have other features; what was trained on one is not valid for another. Findings are judged by the
limits in the file, which the training patients set.

## Licence

Apache-2.0, as the program.
"""
"""The sections of a card that do not depend on the training."""


def _sources_of(inputs: Inputs) -> CourseSources:
    linked = {role: [one.paths for one in series] for role, series in inputs.linked.items()}
    return _sources({**linked, "cbct": [*linked.get("cbct", []), inputs.trigger.paths]})


def _sources_in(patient: CollectedPatient) -> CourseSources:
    roles = ("planning_ct", "structure_set", "cbct", "registration", "treatment_record")
    return _sources({role: patient.series(role) for role in roles})


def _sources(series: Mapping[str, Sequence[Sequence[Path]]]) -> CourseSources:
    files = {role: sorted(path for paths in many for path in paths) for role, many in series.items()}
    return CourseSources(
        planning_ct=series.get("planning_ct", ()),
        structure_sets=files.get("structure_set", ()),
        cbct=series.get("cbct", ()),
        treatment_records=files.get("treatment_record", ()),
        registrations=files.get("registration", ()),
    )


def _named(points: Sequence[TimePoint]) -> str:
    words = {TimePoint.EARLY: "the beginning", TimePoint.MIDDLE: "the middle", TimePoint.LATE: "the end"}
    return " and ".join(words[point] for point in points)
