"""Train the prior of few-view reconstruction and measure the limits of its card on scans that are simulated."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data_step import MeasuredRays
from models.diffusion import DiffusionPrior, load_prior
from models.few_view import FewViewSettings, reconstructed
from models.few_view_measures import evidence_of, few_view_measures
from models.inference import nobody
from models.intensity import body_mask
from models.scan_geometry import FanBeam, ImageGrid, ScanGeometry, full_turn
from models.scan_projector import ScanProjector
from models.scan_simulation import Exposure, simulated_scan
from models.training import diffusion
from models.training.card import measured_limits
from models.training.diffusion import DiffusionSettings
from models.training.pairs import useful_slices
from models.training.progress import Progress
from models.training.volumes import TrainingVolume
from models.weights import Limits, load_card, write_card

USUAL_VIEWS = 800
"""Of one turn, of a scan that is not sparse."""
FEW_VIEWS = 80
WHOLE_SLICE_PIXELS = 200
"""Smaller images are cut-outs, whose outside no scan could leave out."""

_FAN = FanBeam(source_isocenter_mm=595.0, source_detector_mm=1085.6)
_QUARTER = 0.25
_SLICES_EACH = 4
_MISSING_VIEWS = Limits(flag_above=0.0, hold_above=0.05)
"""Policy, not measured: a scan that lacks a view is labelled."""
_TRAINING_SHARE = 0.9

_TEXT = """\
## Stability limits

Of `reconstruct_sparse`, measured on {slices} slices of {patients} patients, those that the prior was trained on among
them: {views} of {usual} views, {photons:g} photons on each element. Flag: the 95th percentile over the slices. Hold:
the normal tolerance bound of 99.5 % of all patients with 95 % confidence over the largest of each patient, which so
few patients make wide. Missing views are flagged by policy.
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
    prior = load_prior(str(weights), bf16=True)
    cases = [volume for volume in whole_slices(volumes) if volume.split != "test"]
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
    whole = card.text.split("## Stability limits")[0] + text
    kept = {**limits, "missing_views_fraction": _MISSING_VIEWS}
    write_card(weights.with_suffix(".md"), card.model_copy(update={"limits": kept, "text": whole}))


def whole_slices(volumes: Sequence[TrainingVolume]) -> list[TrainingVolume]:
    """Volumes that show a patient from side to side."""
    return [volume for volume in volumes if min(volume.hu_zyx.shape[1:]) >= WHOLE_SLICE_PIXELS]


def few_view_scan(rows: int, pixel_mm: float, views: int) -> ScanGeometry:
    """A scanner's fan over a full turn that sees the circle within the image; elements are pixels at the isocenter."""
    source_mm = _FAN.source_isocenter_mm
    pitch_rad = pixel_mm / source_mm
    detectors = 2 + 2 * int(np.ceil(np.arcsin(rows * pixel_mm / 2.0 / source_mm) / pitch_rad))
    grid = ImageGrid(rows, rows, pixel_mm)
    central = (detectors - 1) / 2.0 + _QUARTER
    return ScanGeometry(grid, full_turn(views), detectors, pitch_rad * _FAN.source_detector_mm, central, _FAN)


def seen_pixels(geometry: ScanGeometry) -> NDArray[np.bool_]:
    """Pixels of the circle within the image: (row, column)."""
    grid = geometry.grid
    y, x = grid.row_positions_mm(), grid.column_positions_mm()
    return np.asarray(np.hypot(y[:, None], x) < grid.rows * grid.pixel_mm / 2.0)


def evenly_spaced(indices: NDArray[np.intp], wanted: int) -> list[int]:
    """So many of the indices, evenly over them, the ends left out where there is room; none of none."""
    count = min(len(indices), wanted)
    return [int(indices[int(place)]) for place in (np.arange(count) + 0.5) * len(indices) / max(count, 1)]


def _measures_by_slice(
    volume: TrainingVolume, prior: DiffusionPrior, method: FewViewSettings
) -> list[Mapping[str, float]]:  # fmt: skip
    chosen = evenly_spaced(useful_slices(body_mask(volume.hu_zyx)), _SLICES_EACH)
    geometry = few_view_scan(volume.hu_zyx.shape[1], volume.spacing_zyx_mm[1], FEW_VIEWS)
    seen, exposure, projector = seen_pixels(geometry), Exposure(), ScanProjector(geometry)
    measures: list[Mapping[str, float]] = []
    for index in chosen:
        scan = simulated_scan(volume.hu_zyx[index : index + 1], geometry, exposure, first_slice=index)
        measured = MeasuredRays(projector, scan.line_integrals, scan.inverse_variance)
        result = reconstructed(measured, prior, exposure.water_per_mm, method, first_slice=index)
        evidence = evidence_of(measured, result, exposure.water_per_mm, seen)
        measures.append(few_view_measures(evidence, prior.card.training_domain, volume.spacing_zyx_mm, 0.0))
    return measures
