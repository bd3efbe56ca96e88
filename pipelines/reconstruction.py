"""Few-view CT: from projections (DICOM-CT-PD) to a CT series, with what the data do not tell measured."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage, ParametricMapStorage

from models.data_step import MeasuredRays
from models.diffusion import DiffusionPrior, load_prior
from models.engines import has_bf16
from models.few_view import FewViewSettings, reconstructed
from models.few_view_measures import UNITS, Evidence, evidence_of, few_view_measures, joined
from models.intensity import AIR_HU
from models.iterative import Rays, estimated_photons, inverse_variances
from models.scan_projector import ScanProjector
from models.training.volumes import TrainingDataError
from models.weights import Card, WeightsError, load_card
from pipelines.base import (
    InputRejected,
    Inputs,
    Outcome,
    Pipeline,
    PipelineError,
    Progress,
    TrainingOptions,
    no_progress,
)
from pipelines.dicom.derived import Derivation, derived_ct_series
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.parametric_map import HOUNSFIELD_UNIT, Quantity, parametric_map
from pipelines.dicom.projections import Projections, read_projections
from pipelines.dicom.reconstructed import empty_series, views_of_slices
from pipelines.dicom.scan_stack import MeasuredTurns, ScanStack, scan_stack
from pipelines.integrity import integrity_findings
from pipelines.provenance import provenance
from pipelines.site_limits import SiteStability
from pipelines.stability import Finding

CODE = Code("FEWVIEW", "99RTNODE", "Reconstruction from few views over a diffusion prior")
SPREAD = Quantity("SPREAD_HU", "Spread of HU over noise seeds", codes.SCT.StandardDeviation, HOUNSFIELD_UNIT)

_WHAT: Mapping[str, str] = {
    "projection_residual": "Residual of the worst views in units of their noise",
    "seed_spread_hu": "Spread over noise seeds inside the body in HU",
    "null_space_share": "Part of the difference to a backprojection that no ray sees",
    "outside_field_line_integral": "Line integral at the edge of the detector; a patient who fits in makes 0",
    "missing_views_fraction": "Part of the views that are missing",
    "pixel_spacing_outside_mm": "Pixel spacing outside what the prior was trained on, in mm",
    "body_mean_departure_sd": "Mean HU of the body against the training patients, in standard deviations",
}


class SparseReconstruction(Pipeline):
    """A CT series from projections of which most were never taken."""

    produces: ClassVar[frozenset[UID]] = frozenset({CTImageStorage, ParametricMapStorage})

    weights: str
    """Name of a shipped prior, or path of a `.safetensors` file with its card beside it."""
    matrix: int = Field(512, ge=32, le=1024, multiple_of=8)
    """Rows and columns over the Reconstruction Diameter; half as many take a quarter of the time."""
    steps: int = Field(1, ge=1, le=20)
    """T, evaluations of the network in the chain; more are slower, and were not better."""
    seeds: int = Field(4, ge=1, le=16)
    """Draws of the noise: their mean is the result, their spread is a finding."""
    electronic_sd: float = Field(10.0, ge=0.0)
    """Noise of the detector's readout, in photons; the header of projections does not tell it."""
    spread_map: bool = True
    """Whether the spread over the seeds is sent as a Parametric Map beside the CT."""
    series_description: str = "Few-view CT"

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the prior, verified against its card; errors as of `models.weights.load_card`."""
        return (load_card(self.weights).sha256,)

    def settings_sha256(self) -> str:
        """Digest of settings and prior, of the card's limits, of the settings of the method and of the arithmetic."""
        limits = {name: limit.model_dump() for name, limit in sorted(load_card(self.weights).limits.items())}
        method = TypeAdapter(FewViewSettings).dump_python(self._method(), mode="json")
        return hashlib.sha256(json.dumps([super().settings_sha256(), limits, method, has_bf16()]).encode()).hexdigest()

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Reconstruct the triggering series."""
        projections = read_projections(inputs.trigger.paths)
        stack = scan_stack(projections, self.matrix)
        progress(0.05, "read")
        prior = self._prior()
        evidence = self._reconstructed(projections, stack, prior, lambda done: progress(0.05 + 0.85 * done, "slices"))
        source = empty_series(projections, stack)
        hu_zyx = np.where(stack.covered(), evidence.hu, np.float32(AIR_HU))
        series = derived_ct_series(
            source,
            hu_zyx,
            self,
            inputs,
            self.series_description,
            Derivation(self._description(prior.card, projections), CODE),
            views_of_slices(projections, stack),
        )
        progress(0.95, "measuring")
        findings = (
            *integrity_findings(source, series),
            *_measured(evidence, source, prior.card, projections, self.stability),
        )
        maps = ((self._spread(series, evidence, inputs),),) if self.spread_map and self.seeds > 1 else ()
        return Outcome(series=(series, *maps), findings=findings)

    def train(self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress) -> Path:
        """Train the prior on CT below `data`, then measure its limits on simulated scans."""
        from models.training.diffusion import DiffusionSettings
        from models.training.few_view import train
        from pipelines.training_data import training_volumes

        if options.method is not None or options.slices is not None:
            raise PipelineError(f"{self.name} has one method of training, on all slices")
        chosen = options.model_dump(include={"updates", "seed", "device"}, exclude_none=True)
        try:
            settings = TypeAdapter(DiffusionSettings).validate_python({**options.settings, **chosen})
            return train(training_volumes(data), settings, self._method(), output, Path(self.weights).stem, progress)
        except ValidationError as error:
            first = error.errors()[0]
            raise PipelineError(f"training setting {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except TrainingDataError as error:
            raise PipelineError(str(error)) from error

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Compare reconstructions of simulated scans of the test patients below `data` with the truth."""
        from models.training.few_view_evaluation import evaluate
        from pipelines.training_data import training_volumes

        try:
            volumes = training_volumes(data)
            return evaluate(
                self.weights, volumes, output, self._method(), progress=progress, comparators=comparators, record=record
            )
        except (TrainingDataError, WeightsError) as error:
            raise PipelineError(str(error)) from error

    def _method(self) -> FewViewSettings:
        return FewViewSettings(steps=self.steps, seeds=self.seeds)

    def _prior(self) -> DiffusionPrior:
        try:
            return load_prior(self.weights, bf16=has_bf16())
        except WeightsError as error:
            raise PipelineError(str(error)) from error

    def _reconstructed(
        self, projections: Projections, stack: ScanStack, prior: DiffusionPrior, progress: Callable[[float], None]
    ) -> Evidence:
        """All slices; those that the same rays measured share one projector."""
        water_per_mm, seen = projections.water_attenuation_per_mm, stack.covered()
        parts: list[Evidence] = []
        done = 0
        for turn in stack.turns:
            measured = MeasuredRays(ScanProjector(turn.geometry), turn.line_integrals, self._inverse_variance(turn))
            begun, share = done / len(stack), len(turn.slices) / len(stack)
            result = reconstructed(
                measured,
                prior,
                water_per_mm,
                self._method(),
                lambda part, _, begun=begun, share=share: progress(begun + share * part),  # type: ignore[misc]
                first_slice=turn.slices[0],
            )
            parts.append(evidence_of(measured, result, water_per_mm, seen))
            done += len(turn.slices)
        return joined(parts, [number for turn in stack.turns for number in turn.slices])

    def _inverse_variance(self, turn: MeasuredTurns) -> Rays:
        weights = inverse_variances(turn.line_integrals, _photons(turn), self.electronic_sd)
        if not weights.any(axis=2).all():
            raise InputRejected("A view was taken without a photon: its Photon Statistics are 0")
        return weights

    def _description(self, card: Card, projections: Projections) -> str:
        return (
            f"Iterative reconstruction of {len(projections.line_integrals)} views over a diffusion prior ({card.name}),"
            f" T = {self.steps}, mean of {self.seeds} noise seeds"
        )

    def _spread(self, series: tuple[Dataset, ...], evidence: Evidence, inputs: Inputs) -> Dataset:
        return parametric_map(series, evidence.spread_hu, SPREAD, provenance(self, inputs))


def _photons(turn: MeasuredTurns) -> Rays | float:
    if turn.photons is not None:
        return turn.photons
    try:
        return estimated_photons(turn.line_integrals)
    except ValueError as error:
        raise InputRejected(f"Photon Statistics are absent, and can not be estimated: {error}") from error


def _measured(
    evidence: Evidence, source: ImageSeries, card: Card, projections: Projections, site: SiteStability
) -> Iterator[Finding]:
    views = len(projections.line_integrals)
    missing = projections.missing_views / (views + projections.missing_views)
    measures = few_view_measures(evidence, card.training_domain, source.volume.spacing_zyx_mm, missing)
    for name, value in measures.items():
        yield site.judged(name, value, UNITS[name], card.limits.get(name), _WHAT[name])
