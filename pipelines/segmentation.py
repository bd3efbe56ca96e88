"""Organs at risk and targets: from a CT, or a CT with an MR, to a DICOM Segmentation and an RT Structure Set."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pydicom.uid import UID, RTStructureSetStorage, SegmentationStorage

from models.engines import has_bf16
from models.intensity import AIR_HU
from models.limits import Limits
from models.organ_finder import OrganFinder, load_organ_finder
from models.organ_plausibility import POLICY, UNITS, plausibility_measures
from models.organ_sides import pieces_of
from models.segmentation import Segmentation as FoundOrgans
from models.segmentation import largest_pieces
from models.weights import Card, WeightsError, load_card
from pipelines.base import (
    DataSizeOptions,
    InputRejected,
    Inputs,
    Need,
    Outcome,
    Pipeline,
    PipelineError,
    Progress,
    TrainingOptions,
    no_progress,
)
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.mr_on_ct import mr_on_ct
from pipelines.dicom.organs import OrganObject
from pipelines.dicom.registration import usable_registrations
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.structure_names import standard_name
from pipelines.dicom.structure_set_writing import check_transverse, organ_structure_set
from pipelines.dicom.volume import OBLIQUITY_IGNORED_DEG, AxisOrder, axis_order, obliquity_deg
from pipelines.integrity import identity_finding
from pipelines.organ_reading_back import read_back_findings
from pipelines.provenance import Provenance, provenance
from pipelines.site_limits import SiteStability
from pipelines.stability import Finding, Verdict

Masks: TypeAlias = Mapping[str, NDArray[np.bool_]]
"""By TG-263 name, [slice, row, column] on the grid of the images."""

_WHAT: Mapping[str, str] = {
    "pixel_spacing_outside_mm": "Pixel spacing outside what the model was trained on, in mm",
    "slice_spacing_outside_mm": "Slice spacing outside what the model was trained on, in mm",
    "body_mean_departure_sd": "Mean HU of the body against the training patients, in standard deviations",
    "height_missing_mm": "Scan shorter than any that the model was trained on, in mm",
    "organs_not_found": "Organs that were not found",
    "organ_doubt": "Mean doubt of the network about the organ that it is least sure of",
    "stray_part": "Part of an organ that lies apart from it",
    "volume_outside_part": "Volume of an organ beyond that of all training patients, as a part of it",
    "missing_organ_part": "Part of the usual height of an organ that was not found which lies within the scan",
    "piece_apart_ml": "Volume of what is written of an organ apart from it, in mL",
    "look_disagreement": "Disagreement about an organ between the image and the mirrored image",
    "organ_shift_sd": "Displacement of all organs that the image asks for, in standard deviations between patients",
    "organ_misfit_sd": "Departure of the image around an organ from the usual, in standard deviations between patients",
    "organ_hu_departure_sd": "Mean HU of an organ against the usual, in standard deviations between patients",
    "input_noise_hu": "Noise of the image in soft tissue in HU",
    "metal_part": "Part of the body above 1800 HU",
    "truncated_part": "Part of the outline of the body that lies on the rim of the field of view",
    "sides_swapped": "Left organs that lie to the right of the right ones",
}


class Segmentation(Pipeline):
    """Organs of the triggering CT; an MR that is tied to it is looked at too where the weights can."""

    needs: ClassVar[Mapping[str, Need]] = {
        "mr": Need(at_least=0),
        "registration": Need(at_least=0, at_most=None),
    }
    produces: ClassVar[frozenset[UID]] = frozenset({SegmentationStorage, RTStructureSetStorage})

    weights: str
    """Name of shipped weights, or path of a `.safetensors` file with its card beside it, trained here or imported."""
    organs: tuple[str, ...] = ()
    """TG-263 names of those that are written, of those that the weights know; empty: all. Training needs them."""
    objects: tuple[Literal["segmentation", "structure_set"], ...] = Field(
        ("segmentation", "structure_set"), min_length=1
    )
    """What is sent."""

    one_piece: bool = True
    """Whether only the largest piece of each organ is kept, of a pair under one name the two largest."""
    mirror: bool = False
    """Whether the mirrored image is looked at too and the mean taken: twice the time, a little better."""
    use_mr: bool = True
    """Whether an MR is looked at."""
    made_up_pelves: int = Field(0, ge=0, exclude=True)
    """Training on so many made-up patients, where no contours may be had; of the data, only CT texture is used. No
    result depends on it."""
    training: Mapping[str, Any] = Field(default_factory=dict, exclude=True)
    """Training settings by name, as of `models.training.segmentation_settings`; no result depends on them."""
    series_description: str = "Organs"

    @field_validator("organs")
    @classmethod
    def _in_standard_spelling(cls, organs: tuple[str, ...]) -> tuple[str, ...]:
        """Left and right are told by the spelling of TG-263."""
        return tuple(standard_name(organ) or organ for organ in organs)

    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the weights, verified against their card.

        Raises
        ------
        models.weights.WeightsError
            If they can not be used, find no organs, or do not know an organ that is to be written.
        """
        card = load_card(self.weights)
        if unknown := set(self.organs) - set(organs_of(card)):
            raise WeightsError(f"{self.weights} does not know the organ {min(unknown)}")
        return (card.sha256,)

    def settings_sha256(self) -> str:
        """Digest of settings and weights, of what the card says of how they are used and judged, and of the arithmetic.

        How an imported network is asked, the directions of its axes among it, is in its card alone. Whether the CPU
        multiplies in bfloat16 decides which voxels at the edge of an organ belong to it.
        """
        card = load_card(self.weights).model_dump(mode="json", exclude={"metrics"})
        identity = [super().settings_sha256(), card, has_bf16()]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Find the organs of the triggering series."""
        source = read_image_series(inputs.trigger.paths)
        self.check(source)
        progress(0.05, "read")
        work = self.found(source, inputs, lambda done, what: progress(0.05 + 0.75 * done, what))
        origin = provenance(self, inputs)
        objects = self.written(source, work.kept, origin)
        progress(0.9, "measuring")
        findings = (
            identity_finding(source, [one.dataset for one in objects]),
            *read_back_findings(source, work.kept, [one.dataset for one in objects]),
            *work.findings,
        )
        return Outcome(series=tuple((one.dataset,) for one in objects), findings=findings)

    def check(self, source: ImageSeries) -> None:
        """Refuse what could not be written before anything is computed.

        Raises
        ------
        InputRejected
            If a structure set is wanted and the slices are oblique.
        """
        if "structure_set" in self.objects:
            check_transverse(source)

    def found(self, source: ImageSeries, inputs: Inputs, progress: Progress) -> "FoundInImages":
        """The organs, on the grid of the images, and what speaks for and against them."""
        finder, order = self._finder(), axis_order(source.volume)
        hu_zyx, spacing = order.canonical(source.filled_zyx(AIR_HU)), order.spacing_zyx_mm(source.volume)
        unused: tuple[Finding, ...] = ()
        try:
            mr = self._mr(source, inputs, finder, order)
        except InputRejected as error:
            # The CT alone will do for the network; whether it will do for the patient, a person has to say.
            mr, unused = None, (_of_unused_mr(error),)
        organs = finder.find(hu_zyx, spacing, mr, progress)
        wanted = {organ: organs.mask(organ) for organ in self.organs or organs.organs}
        kept = {name: self._kept(name, mask) for name, mask in wanted.items()}
        findings = (
            *unused,
            *self._measured(finder.card, hu_zyx, spacing, organs, wanted, kept),
            *_of_obliquity(source, self.stability),
        )
        return FoundInImages({organ: order.original(mask) for organ, mask in kept.items()}, findings)

    def written(self, source: ImageSeries, kept: Masks, origin: Provenance) -> list[OrganObject]:
        """The objects that are wanted.

        Raises
        ------
        InputRejected
            If no organ was found.
        """
        writers = {"segmentation": segmentation, "structure_set": organ_structure_set}
        return [writers[name](source, kept, origin, self.series_description) for name in self.objects]

    # Training brings its plotting with it; a worker that only runs jobs never loads it.

    def train(self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress) -> Path:
        """Train on the CT with organs below `data`; the weights get the name in the settings."""
        from pipelines.segmentation_training import train_segmentation

        return train_segmentation(self, data, output, options, progress)

    def evaluate(
        self,
        data: Path,
        output: Path,
        progress: Progress = no_progress,
        comparators: bool = True,
        record: bool = False,
    ) -> Mapping[str, float]:
        """Compare the organs of the test patients below `data` with what was drawn; the page lies in `output`."""
        from pipelines.segmentation_training import evaluate_segmentation

        return evaluate_segmentation(self, data, output, progress, record)

    def calibrate(self, data: Path, output: Path, progress: Progress = no_progress) -> Mapping[str, Limits]:
        """Measure the limits on the validation patients below `data`, with the organs that the weights know."""
        from pipelines.segmentation_training import calibrate_segmentation

        return calibrate_segmentation(self, data, progress)

    def study_ablation(
        self, data: Path, output: Path, options: TrainingOptions, progress: Progress = no_progress
    ) -> str:
        """Train with each window and each kind of class weights, judge on the validation patients."""
        from pipelines.segmentation_training import study_segmentation

        return study_segmentation(self, data, output, options, progress)

    def study_data_size(
        self, data: Path, output: Path, options: DataSizeOptions, progress: Progress = no_progress
    ) -> str:
        """Not to be answered: the study chooses slices, and this is trained on whole volumes."""
        raise PipelineError(f"{self.name} is trained on whole volumes, so there is no number of slices to study")

    def _measured(
        self,
        card: Card,
        hu_zyx: NDArray[np.float32],
        spacing: tuple[float, float, float],
        organs: FoundOrgans,
        wanted: Masks,
        kept: Masks,
    ) -> Iterator[Finding]:
        for organ, mask in kept.items():
            if not mask.any():
                yield Finding(
                    name=f"{organ.lower()}_not_found",
                    value=1.0,
                    unit="1",
                    verdict=Verdict.FLAG,
                    text=f"{organ} not found",
                )
        limits = {**card.limits, **POLICY}
        measures = plausibility_measures(
            card, hu_zyx, spacing, wanted, organs.mean_probability, kept, organs.look_disagreement
        )
        for name, value in measures.items():
            yield self.stability.judged(name, value, UNITS[name], limits.get(name), _WHAT[name])

    def _kept(self, organ: str, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return largest_pieces(mask, pieces_of(organ)) if self.one_piece else mask

    def _finder(self) -> OrganFinder:
        try:
            return load_organ_finder(self.weights, bf16=has_bf16(), mirror=self.mirror)
        except WeightsError as error:
            raise PipelineError(str(error)) from error

    def _mr(
        self, source: ImageSeries, inputs: Inputs, finder: OrganFinder, order: AxisOrder
    ) -> NDArray[np.float32] | None:  # fmt: skip
        linked = inputs.linked.get("mr", ())
        if not linked or not finder.takes_mr or not self.use_mr:
            return None
        mr = read_image_series(linked[0].paths, frozenset({"MR"}))
        paths = (path for series in inputs.linked.get("registration", ()) for path in series.paths)
        return order.canonical(mr_on_ct(mr, source, usable_registrations(paths)))


@dataclass(frozen=True)
class FoundInImages:
    """What a network found in one series."""

    kept: Masks
    """As they are to be written."""
    findings: tuple[Finding, ...]


def organs_of(card: Card) -> tuple[str, ...]:
    """TG-263 names of what weights find.

    Raises
    ------
    models.weights.WeightsError
        If they find none.
    """
    if card.segmentation is not None:
        return card.segmentation.organs
    if card.imported is not None:
        return card.imported.organs
    raise WeightsError(f"the weights {card.name} are of the method {card.method}, which finds no organs")


def _of_unused_mr(error: InputRejected) -> Finding:
    return Finding(
        name="mr_not_used", value=1.0, unit="1", verdict=Verdict.HOLD, text=f"Found in the CT alone: {error}"
    )


def _of_obliquity(source: ImageSeries, site: SiteStability) -> Iterator[Finding]:
    """Of slices at an angle no model has learnt; without a limit they wait for a person."""
    angle = obliquity_deg(source.volume)
    if angle > OBLIQUITY_IGNORED_DEG:
        yield site.judged("obliquity_deg", angle, "deg", None, "Angle of the slices to the axial plane in degrees")
