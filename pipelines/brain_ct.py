"""Prognosis after cardiac arrest from a head CT: grey-white ratio, features of brain and regions, a classifier."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydicom.uid import UID, Comprehensive3DSRStorage, EncapsulatedPDFStorage

from models.brain_features import BOTH, GWR, BrainFeatureSettings
from models.prognosis import PrognosisError, PrognosisModel, extraction_sha256, load_prognosis, predicted
from models.weights import WeightsError
from pipelines.base import (
    DataSizeOptions,
    InputRejected,
    Inputs,
    Outcome,
    Pipeline,
    PipelineError,
    Progress,
    TrainingOptions,
    no_progress,
)
from pipelines.brain_measurement import extraction, measured_brain
from pipelines.provenance import provenance

_TRAINING: Mapping[str, Any] = {"feature_set": BOTH, "baseline_set": GWR}


class BrainCt(Pipeline):
    """A structured report and a page from the triggering head CT."""

    produces: ClassVar[frozenset[UID]] = frozenset({Comprehensive3DSRStorage, EncapsulatedPDFStorage})
    # Its own report says what was found.
    reports_quality: ClassVar[bool] = False

    weights: str
    """Name of a shipped model, or path of a `.json` file with its card beside it."""
    features: BrainFeatureSettings = BrainFeatureSettings()
    """How the features are computed; a model that was trained on others is refused."""
    training: Mapping[str, Any] = Field(default_factory=dict, exclude=True)
    """Settings of `models.training.prognosis_settings`; no result depends on them."""

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the model, verified against its card.

        Raises
        ------
        models.weights.WeightsError
            If it can not be used.
        """
        return (load_prognosis(self.weights)[0].sha256,)

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Measure the brain and state the prognosis."""
        # Drawing the page takes a plotting library, which training and evaluation of features do without.
        from pipelines.brain_report import brain_findings, brain_report

        model, sha256 = self._model()
        brain = measured_brain(inputs.trigger.paths, self.features)
        progress(0.8, "measured")
        try:
            prediction = predicted(model, brain.features.sets()[model.feature_set])
        except PrognosisError as error:
            raise InputRejected(str(error)) from error
        findings = brain_findings(brain, model, prediction, self.stability)
        origin = provenance(self, inputs)
        documents = brain_report(brain, (model, self.weights, sha256), prediction, findings, origin, inputs)
        progress(1.0, "written")
        return Outcome(series=tuple((one,) for one in documents), findings=findings)

    def train(self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress) -> Path:
        """Train on the research collections with outcomes below `data`."""
        from pipelines.brain_training import train_brain_ct

        return train_brain_ct(self, data, output, options, progress)

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Measure on the test patients below `data`, with the grey-white ratio alone beside it."""
        from pipelines.brain_training import evaluate_brain_ct

        return evaluate_brain_ct(self, data, output, progress, comparators, record)

    def study_data_size(
        self, data: Path, output: Path, options: DataSizeOptions, progress: Progress = no_progress
    ) -> str:
        """Not to be answered: the study chooses slices, and this is trained on patients."""
        raise PipelineError(f"{self.name} is trained on patients, so there is no number of slices to study")

    def training_settings(self) -> dict[str, Any]:
        """Those of the pipeline, and over them those of its file."""
        return {**_TRAINING, **self.training}

    def extraction(self) -> dict[str, Any]:
        """How the features are computed, as the model keeps it."""
        return extraction(self.features)

    def _model(self) -> tuple[PrognosisModel, str]:
        try:
            card, model = load_prognosis(self.weights)
        except WeightsError as error:
            raise PipelineError(str(error)) from error
        if extraction_sha256(model.extraction) != extraction_sha256(self.extraction()):
            raise PipelineError(f"The features of {self.weights} were computed otherwise than this pipeline does it")
        return model, card.sha256
