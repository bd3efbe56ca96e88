"""Train the prior of few-view reconstruction and measure the limits of its card on scans that are simulated."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.diffusion import DiffusionPrior, load_prior
from models.engines import has_bf16
from models.few_view import FewViewSettings, reconstructed
from models.few_view_measures import evidence_of, few_view_measures
from models.inference import nobody
from models.limits import Limits
from models.scan_simulation import Exposure
from models.training import diffusion
from models.training.diffusion import DiffusionSettings
from models.training.few_view_scans import inscribed_circle, is_whole, scanned_patient
from models.training.measured_limits import measured_limits
from models.training.progress import Progress
from models.training.volumes import TrainingVolume
from models.weights import load_card, write_card

USUAL_VIEWS = 800
"""Of one turn, of a scan that is not sparse."""
FEW_VIEWS = 80

_SLICES_EACH = 4
_SEED = 10_000
"""Of the noise; other noise than that of tuning and testing."""
_MISSING_VIEWS = Limits(flag_above=0.0, hold_above=0.05)
"""Policy, not measured: a scan that lacks a view is labelled."""
_TRAINING_SHARE = 0.9

_TEXT = """\
## Stability limits

Of `reconstruct_sparse`, measured on {slices} slices of {patients} patients, those that the prior was trained on among
them: {views} of {usual} views, {photons:g} photons on each element. Flag: the normal prediction bound of 99 % of new
patients. Hold: the normal tolerance bound of 99.5 % of all patients with 95 % confidence. Both take the largest of each
patient, and so few patients make them wide. Missing views are flagged by policy.
"""


def train(
    volumes: Sequence[TrainingVolume],
    settings: DiffusionSettings,
    method: FewViewSettings,
    output: Path,
    name: str,
    progress: Progress = nobody,
) -> Path:
    """Train the prior (`models.training.diffusion.train`), then write the limits of the method into its card.

    Raises
    ------
    TrainingDataError
        As `models.training.diffusion.train`.
    """
    path = diffusion.train(volumes, settings, output, name, lambda done, what: progress(_TRAINING_SHARE * done, what))
    write_limits(path, diffusion.usable_volumes(volumes, settings), method)
    progress(1.0, "measured limits")
    return path


def write_limits(weights: Path, volumes: Sequence[TrainingVolume], method: FewViewSettings) -> None:
    """Measure the limits on all whole slices that are not for testing, and state them in the card."""
    prior = load_prior(str(weights), bf16=has_bf16())
    cases = [volume for volume in volumes if is_whole(volume) and volume.split != "test"]
    measured = [_measures_by_slice(volume, prior, method) for volume in cases]
    if not any(measured):
        return
    by_patient: dict[str, list[Mapping[str, float]]] = {}
    for volume, measures in zip(cases, measured, strict=True):
        by_patient.setdefault(volume.patient_id, []).extend(measures)
    limits = measured_limits([values for values in by_patient.values() if values])
    del limits["slice_spacing_outside_mm"]
    text = _TEXT.format(
        slices=sum(map(len, measured)),
        patients=len(by_patient),
        views=FEW_VIEWS,
        usual=USUAL_VIEWS,
        photons=Exposure().photons,
    )
    card = load_card(str(weights))
    before, _, after = card.text.partition("## Stability limits")
    _, heading, others = after.partition("\n## ")
    kept = {**limits, "missing_views_fraction": _MISSING_VIEWS}
    write_card(
        weights.with_suffix(".md"),
        card.model_copy(update={"limits": kept, "text": f"{before}{text}{heading}{others}"}),
    )


def _measures_by_slice(
    volume: TrainingVolume, prior: DiffusionPrior, method: FewViewSettings
) -> list[Mapping[str, float]]:  # fmt: skip
    patient = scanned_patient(volume, _SLICES_EACH, FEW_VIEWS, _SEED)
    if patient is None:
        return []
    scan = patient.scan(patient.projector(FEW_VIEWS), Exposure().photons)
    seen, water_per_mm = inscribed_circle(scan.geometry.grid), scan.exposure.water_per_mm
    measures: list[Mapping[str, float]] = []
    for number in range(len(scan.truth)):
        measured = scan.of(slice(number, number + 1)).measured
        result = reconstructed(measured, prior, water_per_mm, method, first_slice=number)
        evidence = evidence_of(measured, result, water_per_mm, seen)
        measures.append(few_view_measures(evidence, prior.card.training_domain, volume.spacing_zyx_mm, 0.0))
    return measures
