"""What a pipeline is: the series that it needs, what it makes, and the findings that judge it.

A site configures a pipeline with a YAML file that names the class (`module:Class`) and its settings; the settings
are the fields of the class. Nothing is registered and nothing happens on import.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict
from pydicom import Dataset
from pydicom.uid import UID

from models.limits import Limits
from pipelines.site_limits import SiteStability
from pipelines.stability import Finding


class PipelineError(Exception):
    """The pipeline failed in a way that another attempt may cure."""


class InputRejected(PipelineError):
    """The input can not be processed, now or later; the message is one plain sentence for the person who reads it."""


class Tie(StrEnum):
    """How a needed series has to be bound to the series that starts the job."""

    FRAME_OF_REFERENCE = "frame_of_reference"
    """Both share a Frame of Reference, or a registration or reference leads from one to the other."""
    PATIENT = "patient"
    """Both are of one patient; for what is compared over time."""


class Need(BaseModel):
    """How many series of a role a pipeline needs beside the one that starts it, and how they are tied to that one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_least: int = 1
    at_most: int | None = 1
    tied: Tie = Tie.FRAME_OF_REFERENCE
    earlier: bool = False
    """Only series that were acquired before the one that starts the job count, such as the fractions before this one.

    A series that states no date is not earlier than another, nor another than it.
    """


@dataclass(frozen=True)
class Predecessor:
    """An earlier report that the result of a job continues or replaces (PS3.3 C.17.2, Predecessor Documents)."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True)
class InputSeries:
    """The instances of one series, as files; in no particular order."""

    role: str
    series_instance_uid: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Labelling:
    """How results are marked until a named person of the site decides otherwise.

    References
    ----------
    PS3.3 C.8.13.2.1 Content Qualification
    """

    content_qualification: str = "RESEARCH"
    not_for_treatment: bool = True


@dataclass(frozen=True)
class Inputs:
    """What one job works on: the series that started it and those linked to it, by role."""

    trigger: InputSeries
    linked: Mapping[str, tuple[InputSeries, ...]] = field(default_factory=dict)
    labelling: Labelling = Labelling()
    predecessors: tuple[Predecessor, ...] = ()
    """The report of the fraction before this one, and those of this one that are replaced; none outside the node."""


@dataclass(frozen=True)
class Outcome:
    """New datasets, grouped by series, and what was found about them."""

    series: tuple[tuple[Dataset, ...], ...]
    findings: tuple[Finding, ...]


class Progress(Protocol):
    """Told how far the work is."""

    def __call__(self, done: float, what: str) -> None:
        """`done` runs from 0 to 1; `what` is a word or two for the person who waits."""


def no_progress(done: float, what: str) -> None:
    """The progress of work that nobody watches."""


class Pipeline(BaseModel, ABC):
    """From the series of a study to new series, with findings. Subclasses are frozen: fields are the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[Mapping[str, Need]] = {}
    produces: ClassVar[frozenset[UID]]
    reports_quality: ClassVar[bool] = True
    """Whether a quality report and a page are made beside its results; False where a result says itself what was found
    about it, or holds nothing that a model has made."""

    name: str
    """Name of the configuration file, without its ending; the same class may serve several."""
    stability: SiteStability = SiteStability()
    """Limits that the site has set in place of the model card's."""

    @abstractmethod
    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Make the new datasets.

        Raises
        ------
        InputRejected
            If no attempt could succeed on these inputs.
        PipelineError
            If another attempt may succeed.
        """

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of every weights file in use; empty for a pipeline without a model.

        Raises
        ------
        models.weights.WeightsError
            If a file is absent or differs from its card.
        """
        return ()

    def settings_sha256(self) -> str:
        """Digest of class, name, settings and weights: two pipelines with the same digest make the same result."""
        # Only where the site has set some: its limits decide how a result is labelled.
        left_out = None if self.stability.limits else {"stability"}
        identity = {
            "class": f"{type(self).__module__}:{type(self).__qualname__}",
            "settings": self.model_dump(mode="json", exclude=left_out),
            "weights": self.weights_sha256(),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def train(self, data: Path, output: Path, options: "TrainingOptions", progress: Progress = no_progress) -> Path:
        """Train on the images below `data`, write weights and card into `output`; returns the weights file.

        Raises
        ------
        PipelineError
            If this pipeline has no model, or the data do not suffice.
        """
        raise PipelineError(f"{self.name} has nothing to train")

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Measure on held-out data below `data`; returns the figures by name (unit in the name), report in `output`.

        With `comparators`, what the model has to beat is measured beside it; with `record`, the card is told.

        Raises
        ------
        PipelineError
            If this pipeline has no model, or the data do not suffice.
        """
        raise PipelineError(f"{self.name} has nothing to evaluate")

    def calibrate(self, data: Path, output: Path, progress: Progress = no_progress) -> Mapping[str, Limits]:
        """Measure the limits of the findings on the validation patients below `data`, and write them into the card.

        What has to be simulated is kept in `output`.

        Raises
        ------
        PipelineError
            If this pipeline has no model whose limits are measured so, or the data do not suffice.
        """
        raise PipelineError(f"{self.name} has no limits to measure")

    def study_data_size(
        self, data: Path, output: Path, options: "DataSizeOptions", progress: Progress = no_progress
    ) -> str:
        """Train on sets of different size below `data`; table, figure and rows in `output`, the answer as a sentence.

        Raises
        ------
        PipelineError
            If this pipeline has no model, or the data do not suffice.
        """
        raise PipelineError(f"{self.name} has nothing to train, so there is no training size to study")

    def study_ablation(
        self, data: Path, output: Path, options: "TrainingOptions", progress: Progress = no_progress
    ) -> str:
        """Train with each choice that the method has; table, figure and rows in `output`, the answer as a sentence.

        Raises
        ------
        PipelineError
            If this pipeline has no such choice, or the data do not suffice.
        """
        raise PipelineError(f"{self.name} has no choices to compare")


class TrainingOptions(BaseModel):
    """What a person may choose at the command line for one training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str | None = None
    """One of the methods of the pipeline; None: its own choice."""
    updates: int | None = None
    """None: the number that the settings state, or the pipeline's own."""
    slices: int | None = None
    """Number of training slices of each domain; None takes all."""
    seed: int | None = None
    """None: the one that the settings state, or 0."""
    device: str | None = None
    """None: the one that the settings state, or the CPU."""
    settings: Mapping[str, Any] = {}
    """Training settings of the pipeline by name; what is chosen above goes before them."""


class DataSizeOptions(BaseModel):
    """What a person may choose at the command line for a study of the training size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: tuple[int | Literal["all"], ...]
    """Numbers of training slices of each domain."""
    training: TrainingOptions = TrainingOptions()
    """Of every training, whatever its size; slices and seed are those of the study."""
    seeds: int = 3
    """Trainings of each size."""
    validation_slices: int = 24
    """Of each validation volume, at most so many neighbouring slices are judged."""
    jobs: int = 1
    """Trainings that run at the same time."""
