"""The card of freshly trained weights: training domain, stability limits and the text for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from models.cyclegan import Architecture
from models.inference import EnhancementModel, enhanced, load_generator
from models.stability_measures import domain_measures, stability_measures
from models.training.pairs import SimulatedPair, simulated_pair
from models.training.volumes import TrainingVolume, of_split
from models.weights import Card, Limits, TrainingDomain, save, write_card

_FLAG_PERCENTILE = 95.0
_HELD_BEYOND, _CONFIDENCE = 0.995, 0.95
_NOISE_REALISATIONS = 2
_SPACING_LIMITS = Limits(flag_above=0.0, hold_above=0.5)
"""Policy, not measured: images just outside the trained spacing are labelled, others wait for a person."""

_METRICS_HEADING = "## Metrics\n\n"

_TEXT = """\
# {name}

**Trained on simulated MVCT: no image of a megavoltage scanner was ever seen.** Planning CT slices and MVCT slices that
were simulated from other patients' planning CT, unpaired.

## Intended use

Research. Converts {modality} to the appearance of planning CT on the same grid.

## Data

{patients} training patients, {slices} slices; {updates} updates of {batch} crops of {crop} pixels, seed {seed}.

## Stability limits

Flag: the {flag:g}th percentile of each measure over {cases} conversions of {validation} validation patients.
Hold: the normal tolerance bound of {held:g} % of all patients with {confidence:g} % confidence, and at least the
largest value seen.
"""


class _Settings(Protocol):
    """What the card says about a training run."""

    @property
    def updates(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def crop_pixels(self) -> int: ...
    @property
    def window_hu(self) -> tuple[float, float]: ...
    @property
    def noise_sd_hu(self) -> tuple[float, float]: ...
    @property
    def working_spacing_mm(self) -> float | None: ...
    @property
    def architecture(self) -> Architecture: ...


def finished_weights(
    generator: nn.Module,
    settings: _Settings,
    pairs: Sequence[SimulatedPair],
    volumes: Sequence[TrainingVolume],
    path: Path,
    progress: Callable[[float, str], None],
) -> Path:
    """Write weights and card; limits are measured with the weights as they were written."""
    domain = training_domain(pairs)
    facts = {
        "method": "cyclegan",
        "architecture": asdict(settings.architecture),
        "window_hu": settings.window_hu,
        "working_spacing_mm": settings.working_spacing_mm,
        "training_domain": domain,
    }
    card = save(path, generator.state_dict(), facts, "")
    validation = of_split(volumes, "validation")
    model = load_generator(str(path))
    limits = measured_limits(model, validation, settings.noise_sd_hu, settings.seed)
    progress(1.0, "measuring limits")
    write_card(
        path.with_suffix(".md"),
        card.model_copy(update={"limits": limits, "text": _text(card, settings, len(validation))}),
    )
    return path


def record_evaluation(card_path: Path, card: Card, figures: Mapping[str, float]) -> Card:
    """Write measured figures into a card: all into the front matter, mean and SD as a table into the text."""
    text = card.text.split(_METRICS_HEADING)[0].rstrip("\n") + f"\n\n{_METRICS_HEADING}{metrics_table(figures)}"
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    recorded = card.model_copy(update={"metrics": rounded, "text": text})
    write_card(card_path, recorded)
    return recorded


def metrics_table(figures: Mapping[str, float]) -> str:
    """Markdown table of the figures of `models.training.evaluation.evaluate`: mean and SD over patients."""
    header = f"{int(figures['patients'])} test patients; mean and SD over patients, inside the body.\n\n"
    rows = ["| | before | after |", "|---|---|---|"]
    for name in figures:
        if "_before" in name and not name.endswith("_sd"):
            before, after = (_with_sd(figures, key) for key in (name, name.replace("_before", "_after")))
            rows.append(f"| {name.replace('_before', '').replace('_', ' ')} | {before} | {after} |")
    return header + "\n".join([*rows, ""])


def training_domain(pairs: Sequence[SimulatedPair]) -> TrainingDomain:
    """What the simulated MVCT of the training patients have in common."""
    means = [float(pair.mvct_hu_zyx[pair.body].mean()) for pair in pairs if pair.body.any()]
    pixels = [mm for pair in pairs for mm in pair.volume.spacing_zyx_mm[1:]]
    slices = [pair.volume.spacing_zyx_mm[0] for pair in pairs]
    return TrainingDomain(
        modality="simulated MVCT",
        pixel_spacing_mm=(round(min(pixels), 3), round(max(pixels), 3)),
        slice_spacing_mm=(round(min(slices), 3), round(max(slices), 3)),
        body_mean_hu=round(float(np.mean(means)), 2),
        body_mean_sd_hu=round(float(np.std(means)), 2),
        patients=len(pairs),
        slices=sum(len(pair.useful_slices()) for pair in pairs),
    )


def measured_limits(
    model: EnhancementModel, volumes: Sequence[TrainingVolume], noise_sd_hu: tuple[float, float], seed: int
) -> dict[str, Limits]:
    """Limits of every measure over the volumes and noise realisations; empty without volumes.

    Flagged is what lies above the 95th percentile of the cases; held, what lies above a bound that holds 99.5 % of all
    patients with a confidence of 95 %, if the measure is normally distributed over patients.

    Without a limit the gate holds every result, as nobody knows what is normal.
    """
    if not volumes:
        return {}
    cases = [
        _measures(model, simulated_pair(volume, noise_sd_hu, seed + 1 + realisation))
        for volume in volumes
        for realisation in range(_NOISE_REALISATIONS)
    ]
    by_patient = {name: np.reshape([case[name] for case in cases], (len(volumes), -1)) for name in cases[0]}
    limits = {name: _limits(values) for name, values in by_patient.items()}
    return {**limits, "pixel_spacing_outside_mm": _SPACING_LIMITS, "slice_spacing_outside_mm": _SPACING_LIMITS}


def _measures(model: EnhancementModel, pair: SimulatedPair) -> Mapping[str, float]:
    spacing = pair.volume.spacing_zyx_mm
    output = enhanced(model, pair.mvct_hu_zyx, spacing)
    return {
        **stability_measures(pair.mvct_hu_zyx, output, spacing),
        **domain_measures(model.card.training_domain, pair.mvct_hu_zyx, spacing),
    }


def _limits(values: NDArray[np.float64]) -> Limits:
    """Of one measure, shape (patients, realisations)."""
    flag = float(np.percentile(values, _FLAG_PERCENTILE))
    hold = max(tolerance_bound(values.max(axis=1)), float(values.max()))
    return Limits(flag_above=_rounded_up(flag), hold_above=_rounded_up(hold))


def tolerance_bound(values: NDArray[np.float64], part: float = _HELD_BEYOND, confidence: float = _CONFIDENCE) -> float:
    """The one-sided upper tolerance bound of a normal sample: above `part` of all cases, with this confidence.

    A percentile of a dozen patients is the largest that was seen, and every twelfth new patient would pass it.

    References
    ----------
    NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.6.3: k from the non-central t distribution
    """
    n = len(values)
    if n < 2:
        return float(values.max())
    k = stats.nct.ppf(confidence, n - 1, stats.norm.ppf(part) * np.sqrt(n)) / np.sqrt(n)
    return float(values.mean() + k * values.std(ddof=1))


def _rounded_up(value: float) -> float:
    """To four digits, never below the value: a case that was measured stays within."""
    if value <= 0.0:
        return 0.0
    unit = 10.0 ** (np.floor(np.log10(value)) - 3)
    return float(f"{np.ceil(value / unit) * unit:.6g}")


def _text(card: Card, settings: _Settings, validation: int) -> str:
    facts: dict[str, Any] = {
        "name": card.name,
        "modality": card.training_domain.modality,
        "patients": card.training_domain.patients,
        "slices": card.training_domain.slices,
        "updates": settings.updates,
        "batch": settings.batch,
        "crop": settings.crop_pixels,
        "seed": settings.seed,
        "flag": _FLAG_PERCENTILE,
        "held": 100 * _HELD_BEYOND,
        "confidence": 100 * _CONFIDENCE,
        "validation": validation,
        "cases": validation * _NOISE_REALISATIONS,
    }
    return _TEXT.format_map(facts)


def _with_sd(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.3g} ({figures[f'{name}_sd']:.2g})"
