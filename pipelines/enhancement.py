"""Enhancement of MVCT or CBCT: a CT series on the same grid and Frame of Reference, with what it changed measured."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError, model_validator
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage

from models.cone_beam import ConeBeamUnavailable
from models.engines import offered_engines
from models.enhancement_measures import UNITS, measures_of_card
from models.inference import EnhancementModel, check_judging, enhanced, load_generator
from models.intensity import AIR_HU
from models.limits import Limits
from models.training.enhancement import train
from models.training.evaluation import evaluate
from models.training.pairs import Modality, Scans
from models.training.settings import Method, TrainingSettings
from models.training.volumes import TrainingDataError
from models.weights import Card, WeightsError, load_card, witness_of
from pipelines.base import (
    DataSizeOptions,
    Inputs,
    Outcome,
    Pipeline,
    PipelineError,
    Progress,
    TrainingOptions,
    no_progress,
)
from pipelines.dicom.derived import Derivation, derived_ct_series
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.volume import OBLIQUITY_IGNORED_DEG, AxisOrder, axis_order, obliquity_deg
from pipelines.integrity import integrity_findings, written_hu
from pipelines.stability import Finding

CODE = Code("ENHANCE", "99RTNODE", "Enhancement by a neural network")
_WHAT: Mapping[str, str] = {
    "mean_change_hu": "Mean change inside the body in HU",
    "largest_local_change_hu": "Largest change of a region of 4 mm in HU",
    "edge_shift_mm": "Shift of edges in mm",
    "body_dice_loss": "Part of the body outline that moved",
    "air_xor_fraction": "Part of the body that turned from tissue to air or back",
    "noise_growth": "Growth of the noise of soft tissue, as a part of that of the input",
    "registration_shift_mm": "Shift that lays the result on what is expected of it, in mm",
    "bend_mm": "Displacement of the parts of the body that moved most, in mm",
    "unexpected_detail": "Details of 3 mm that the witness does not expect, in SD of the image",
    "unexpected_structure": "Structures of 10 mm that the witness does not expect, in SD of the image",
    "unexpected_region": "Regions of 20 mm that the witness does not expect, in SD of the image",
    "structure_lost_hu": "Structures of the input, in a region of 20 mm, that the result does not show, SD in HU",
    "structure_added_hu": "Structures of the result, in a region of 12 mm, that the input does not show, SD in HU",
    "mirrored_likeness": "How much more the result resembles what is expected mirrored than as it is; below 0 if not",
    "misplaced_slice_mm": "Largest distance of a slice from the expected one that it resembles most, in mm",
    "fat_departure_hu": "What became of fat against the usual, in HU",
    "muscle_departure_hu": "What became of muscle against the usual, in HU",
    "bone_departure_hu": "What became of bone against the usual, in HU",
    "contrast_departure": "Contrast of the tissues against the usual, as a part",
    "skin_steepness_departure": "Steepness of the skin's edge against the usual, as a part of what is expected",
    "input_noise_hu": "Noise of the input in soft tissue in HU",
    "metal_ml": "Metal: volume of the body of the input above 1800 HU, in mL",
    "truncated_part": "Part of the outline of the body that lies on the rim of the field of view",
    "feature_distance": "Distance of the network's features of the input to its training images; about 1 for these",
    "pixel_spacing_outside_mm": "Pixel spacing outside what the model was trained on, in mm",
    "slice_spacing_outside_mm": "Slice distance outside what the model was trained on, in mm",
    "body_mean_departure_sd": "Mean HU of the body against the training patients, in standard deviations",
    "obliquity_deg": "Angle of the slices to the axial plane in degrees",
}


class Enhancement(Pipeline):
    """A CT series with the anatomy of the input and the appearance of a planning CT."""

    produces: ClassVar[frozenset[UID]] = frozenset({CTImageStorage})

    weights: str
    """Name of shipped weights, or path of a `.safetensors` file with its card beside it."""
    modality: Modality = "mvct"
    """What is enhanced; training and evaluation simulate it where the data have no real images of it."""
    window_hu: tuple[float, float] | None = None
    """Only values between these are changed; None: all that the model was trained on. In training: its window."""
    series_description: str = "Enhanced"

    @model_validator(mode="after")
    def _window_is_an_interval(self) -> "Enhancement":
        if self.window_hu is not None and self.window_hu[0] >= self.window_hu[1]:
            raise ValueError("window_hu: the lower value has to come first")
        return self

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the weights, verified against their card.

        Raises
        ------
        models.weights.WeightsError
            If the weights are absent or altered, or were not trained for the whole of `window_hu`.
        """
        return (self._card().sha256,)

    def settings_sha256(self) -> str:
        """Digest of settings and weights, of what the cards of these and of the witness say, and of the engines.

        The cards decide how a result is made and labelled, the engines of this machine which of its last bits are set.
        """
        card = self._card()
        cards = [card, load_card(witness_of(self.weights))] if card.witness_sha256 is not None else [card]
        said = [one.model_dump(mode="json", exclude={"metrics"}) for one in cards]
        identity = [super().settings_sha256(), said, offered_engines()]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Enhance the triggering series."""
        source = read_image_series(inputs.trigger.paths)
        progress(0.1, "read")
        model = self._model()
        order = axis_order(source.volume)
        hu_zyx = order.canonical(source.filled_zyx(AIR_HU))
        result = enhanced(
            model, hu_zyx, order.spacing_zyx_mm(source.volume), lambda done, what: progress(0.1 + 0.6 * done, what)
        )
        kept = self._windowed(hu_zyx, result)
        derivation = Derivation(_description(model), CODE)
        series = derived_ct_series(source, order.original(kept), self, inputs, self.series_description, derivation)
        progress(0.8, "measuring")
        findings = (*integrity_findings(source, series), *self._measured(source, series, order, model))
        return Outcome(series=(series,), findings=findings)

    # Training brings its plotting with it; a worker that only runs jobs never loads either.

    def train(self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress) -> Path:
        """Train on `.npz` volumes or CT series below `data`; the weights get the name in the settings."""
        from pipelines.training_data import training_volumes

        if options.method == "witness":
            return self._train_witness(data, output, options, progress)
        settings = self._training_settings(options)
        try:
            return train(training_volumes(data), settings, output, Path(self.weights).stem, progress)
        except (TrainingDataError, ConeBeamUnavailable) as error:
            raise PipelineError(str(error)) from error

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Compare enhanced simulated images of the test patients below `data` with the truth."""
        from pipelines.training_data import training_volumes

        try:
            volumes = training_volumes(data)
            return evaluate(self.weights, volumes, output, self.modality, progress, comparators, record)
        except (TrainingDataError, ConeBeamUnavailable, WeightsError) as error:
            raise PipelineError(str(error)) from error

    def calibrate(self, data: Path, output: Path, progress: Progress = no_progress) -> Mapping[str, Limits]:
        """Measure what is usual and the limits on the validation patients below `data`; what is simulated is kept."""
        from models.training.calibration import calibrate
        from pipelines.training_data import training_volumes

        try:
            return calibrate(self.weights, training_volumes(data), Scans(self.modality), output, progress).limits
        except (TrainingDataError, ConeBeamUnavailable, WeightsError) as error:
            raise PipelineError(str(error)) from error

    def study_data_size(
        self, data: Path, output: Path, options: DataSizeOptions, progress: Progress = no_progress
    ) -> str:
        """Train on nested sets of slices of the training patients below `data`, judge on the validation patients."""
        from models.training.study import StudyBroken, StudySettings, study_data_size
        from pipelines.training_data import training_volumes

        training = self._training_settings(options.training)
        settings = StudySettings(training=training, **options.model_dump(exclude={"training"}))
        try:
            return study_data_size(training_volumes(data), settings, output, progress).sentence()
        except (TrainingDataError, ConeBeamUnavailable, StudyBroken) as error:
            raise PipelineError(str(error)) from error

    def _train_witness(self, data: Path, output: Path, options: TrainingOptions, progress: Progress) -> Path:
        """Train what judges the results of the weights of this pipeline; `output` gets it as NAME_witness."""
        from models.training.witness import WitnessSettings, train_witness
        from pipelines.training_data import training_volumes

        if options.slices is not None:
            raise PipelineError("a witness is trained on all slices; leave --slices out")
        chosen = options.model_dump(include={"updates", "seed", "device"}, exclude_none=True)
        try:
            settings = TypeAdapter(WitnessSettings).validate_python({**options.settings, **chosen})
            return train_witness(self.weights, training_volumes(data), Scans(self.modality), settings, output, progress)
        except ValidationError as error:
            raise PipelineError(_training_fault(error)) from error
        except (TrainingDataError, ConeBeamUnavailable, WeightsError) as error:
            raise PipelineError(str(error)) from error

    def _training_settings(self, options: TrainingOptions) -> TrainingSettings:
        """Settings of the method, changed by those given by name, by the window of the pipeline and by the options."""
        method = options.method or "unpaired"
        if method not in get_args(Method):
            raise PipelineError(
                f"{method!r} is no method of training; there are {', '.join((*get_args(Method), 'witness'))}"
            )
        preset = TrainingSettings.of_method(method, self.modality)  # type: ignore[arg-type]
        chosen = options.model_dump(include={"updates", "slices", "seed", "device"}, exclude_none=True)
        window = {} if self.window_hu is None else {"window_hu": self.window_hu}
        try:
            return TypeAdapter(TrainingSettings).validate_python(
                _merged(asdict(preset), {**options.settings, **window, **chosen})
            )
        except ValidationError as error:
            raise PipelineError(_training_fault(error)) from error

    def _card(self) -> Card:
        card = load_card(self.weights)
        low, high = self.window_hu or card.window_hu
        if low < card.window_hu[0] or high > card.window_hu[1]:
            raise WeightsError(f"{self.weights} was trained for {card.window_hu}, which is less than window_hu")
        check_judging(self.weights, card)
        return card

    def _model(self) -> EnhancementModel:
        try:
            return load_generator(self.weights)
        except WeightsError as error:
            raise PipelineError(str(error)) from error

    def _windowed(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.window_hu is None:
            return after
        low, high = self.window_hu
        return np.where((before > low) & (before < high), after, before)

    def _measured(
        self, source: ImageSeries, series: tuple[Dataset, ...], order: AxisOrder, model: EnhancementModel
    ) -> Iterator[Finding]:
        """What the new datasets, as a reader will find them, changed of the source; and how usual the source is."""
        before = order.canonical(source.filled_zyx(AIR_HU))
        written = np.where(source.padding_zyx, np.float32(AIR_HU), written_hu(series))
        spacing = order.spacing_zyx_mm(source.volume)
        measures = measures_of_card(model, before, order.canonical(written), spacing, self.window_hu)
        obliquity = obliquity_deg(source.volume)
        if obliquity > OBLIQUITY_IGNORED_DEG:
            measures["obliquity_deg"] = obliquity
        for name, value in measures.items():
            what = _WHAT.get(name, name.replace("_", " "))
            yield self.stability.judged(name, value, UNITS.get(name, "1"), model.card.limits.get(name), what)


def _description(model: EnhancementModel) -> str:
    card = model.card
    return f"Neural network {card.name} ({card.method}) computed by {model.engine.described()}; geometry unchanged"


def _training_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"training setting {'.'.join(map(str, first['loc']))}: {first['msg']}"


def _merged(preset: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The preset with some values replaced, also inside of groups of settings."""
    both = {**preset, **changes}
    groups = [name for name in changes if isinstance(preset.get(name), Mapping) and isinstance(both[name], Mapping)]
    return {**both, **{name: _merged(preset[name], changes[name]) for name in groups}}
