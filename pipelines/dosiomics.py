"""Risk of failure after brachytherapy from the dose: standard measures, features of the dose and of its cold spots."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydicom.uid import UID, Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.dosiomic_features import DoseFeature
from models.prognosis import Prediction, PrognosisError, PrognosisModel, extraction_sha256, load_prognosis, predicted
from models.weights import WeightsError
from pipelines.base import (
    InputRejected,
    Inputs,
    InputSeries,
    Need,
    Outcome,
    Pipeline,
    PipelineError,
    Progress,
    TrainingOptions,
    no_progress,
)
from pipelines.dicom.encapsulated_pdf import prognosis_documents
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.report_content import Measured, MeasuredRegion, PrognosisContent
from pipelines.dose_prognosis_features import ORGAN_MEASURES, DoseExtraction, MeasuredDose, measured_dose
from pipelines.planned_dose import NO_PLAN, DosePatient, PlanFacts, read_dose_patient, read_plan_facts
from pipelines.provenance import provenance
from pipelines.stability import Finding, Verdict

_WHAT = {
    "dose_cut_percent": ("%", "Part of the target whose dose was cut, in percent"),
    "dose_spacing_mm": ("mm", "Longest side of a voxel of the dose, in mm"),
    "dose_margin_missing_mm": ("mm", "Dose around the target that the filters miss, in mm"),
    "prescription_departure_percent": (
        "%",
        "Departure of the prescription from that of the training patients, in percent",
    ),
    "feature_distance": ("1", "Distance of the features from those of the training patients"),
}


@dataclass(frozen=True)
class _Case:
    """One patient, read and measured."""

    patient: DosePatient
    prescription_gy: float
    plan: PlanFacts
    measured: MeasuredDose
    measures: Mapping[str, float]


class Dosiomics(Pipeline):
    """Risk of the triggering dose, in the structure set that is tied to it."""

    needs: ClassVar[Mapping[str, Need]] = {
        "structure_set": Need(),
        "plan": Need(at_least=0, at_most=None),
        "planning_ct": Need(at_least=0),
    }
    produces: ClassVar[frozenset[UID]] = frozenset({Comprehensive3DSRStorage, EncapsulatedPDFStorage})
    # Its own report says what was found.
    reports_quality: ClassVar[bool] = False

    weights: str
    """Name of a shipped model, or path of a `.json` file with its card beside it."""
    extraction: DoseExtraction = DoseExtraction()
    """How features are computed; a model is only used with the settings that it was trained with."""
    structure_names: Mapping[str, str] = Field(default_factory=dict)
    """TG-263 names by the ROI names of the site; upper and lower case are alike."""
    training: Mapping[str, Any] = Field(default_factory=dict, exclude=True)
    """Settings of `models.training.prognosis_settings`; no result depends on them."""

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the model, verified against its card and against the way that features are computed.

        Raises
        ------
        models.weights.WeightsError
            If it can not be used, or takes features that are computed otherwise.
        """
        card, model = load_prognosis(self.weights)
        if extraction_sha256(model.extraction) != extraction_sha256(self.extraction.model_dump(mode="json")):
            raise WeightsError(f"the features of {self.weights} were computed with other settings of extraction")
        return (card.sha256,)

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Judge the triggering dose."""
        (weights_sha256,), (_, model) = self.weights_sha256(), load_prognosis(self.weights)
        linked = {role: _paths(series) for role, series in inputs.linked.items()}
        case = self.case({"dose": list(inputs.trigger.paths), **linked})
        progress(0.8, "features")
        try:
            prediction = predicted(model, case.measured.sets()[model.feature_set])
        except PrognosisError as error:
            raise InputRejected(f"{error}, so the model says nothing of this patient") from error
        origin = provenance(self, inputs)
        findings = tuple(self._findings(case, model, prediction))
        images = read_image_series(linked["planning_ct"]).headers if linked.get("planning_ct") else ()
        content = PrognosisContent(
            title="Prognosis from dose",
            regions=(_region(case, model),),
            model=model,
            weights_name=self.weights,
            weights_sha256=weights_sha256,
            prediction=prediction,
            remarks=(*_remarks(case), *case.measured.remarks),
            findings=findings,
        )
        report, page = prognosis_documents(content, images, origin, inputs.predecessors)
        return Outcome(series=((report,), (page,)), findings=findings)

    def case(self, paths: Mapping[str, list[Path]]) -> _Case:
        """A patient's features, from his files by role.

        Raises
        ------
        InputRejected
            If dose, structure set or prescription can not be used.
        PipelineError
            If a library for features is not installed.
        """
        synonyms = {name.strip().lower(): standard for name, standard in self.structure_names.items()}
        patient = read_dose_patient(
            paths["dose"], paths.get("structure_set", []), self.extraction.target, ORGAN_MEASURES, synonyms
        )
        plan = read_plan_facts(paths["plan"], patient.dose) if "plan" in paths else NO_PLAN
        prescription_gy = plan.prescription_gy or self.extraction.prescription_gy
        if prescription_gy is None:
            raise InputRejected("The prescription is stated neither by a plan of the dose nor in the settings")
        measured = measured_dose(patient, prescription_gy, plan.fractions, self.extraction)
        usual_gy = self.extraction.prescription_gy or prescription_gy
        departure = 100.0 * abs(prescription_gy / usual_gy - 1.0)
        measures = {**measured.measures, "prescription_departure_percent": departure}
        return _Case(patient, prescription_gy, plan, measured, measures)

    # Training brings its plotting with it; a worker that only runs jobs never loads it.

    def train(self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress) -> Path:
        """Train on the patients with outcomes of the collections below `data`."""
        from pipelines.dosiomics_training import train_dosiomics

        return train_dosiomics(self, data, output, options, progress)

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Compare what the model says of the test patients below `data` with what became of them."""
        from pipelines.dosiomics_training import evaluate_dosiomics

        try:
            return evaluate_dosiomics(self, data, output, progress, comparators, record)
        except WeightsError as error:
            raise PipelineError(str(error)) from error

    def _findings(self, case: _Case, model: PrognosisModel, prediction: Prediction) -> Iterator[Finding]:
        # A region that reaches beyond the dose has been refused.
        yield _fact("target_outside_dose_percent", 0.0, "The dose grid covers the whole target", unit="%")
        kind = case.patient.dose.dose_summation_type
        yield _fact("dose_parts", float(kind != "PLAN"), _SUMMATION[kind])
        for name, value in {**case.measures, "feature_distance": prediction.distance}.items():
            unit, what = _WHAT[name]
            yield self.stability.judged(name, value, unit, model.limits.get(name), what)


_SUMMATION = {
    "PLAN": "The dose is of a whole plan",
    "MULTI_PLAN": "The dose is of several plans, and the model has learnt from those of one",
    "BRACHY": "The dose is of application setups, and nothing says whether of all of them",
}


def _fact(name: str, value: float, sentence: str, unit: str = "1") -> Finding:
    verdict = Verdict.HOLD if value else Verdict.RELEASE
    return Finding(name=name, value=value, unit=unit, verdict=verdict, text=sentence)


def _paths(series: Iterable[InputSeries]) -> list[Path]:
    return [path for one in series for path in one.paths]


def _remarks(case: _Case) -> Iterator[str]:
    source = "the plan" if case.plan.prescription_gy else "the settings"
    yield f"Doses are judged against the prescription of {source}, {case.prescription_gy:g} Gy."


def _region(case: _Case, model: PrognosisModel) -> MeasuredRegion:
    """Measures and cold spots, and of the hundreds of other features those that the model weighs."""
    patient, measured = case.patient, case.measured
    weighed = {name for one in (model.model, *model.resampled) for name in one.feature_names}
    dosiomics = (one for one in measured.features.dosiomics if one.name in weighed)
    found = (*measured.metrics, *measured.features.topology, *dosiomics)
    return MeasuredRegion(
        roi_name=patient.target_name,
        time_point="",
        images=(patient.dose_header,),
        region=patient.structures_header,
        measurements=tuple(map(_measured, found)),
    )


def _measured(one: DoseFeature) -> Measured:
    return Measured(one.name, one.value, one.unit, one.ibsi_code, one.detail)
