"""Measure an enhancement model on patients it has never seen: MVCT simulated from their CT, so the truth is exact."""

import csv
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.image_quality import Regions, measured, noise_power, regions_of
from models.inference import EnhancementModel, enhanced, load_generator, nobody
from models.intensity import Hu, Mask, body_mask
from models.metrics import mae_hu, ms_ssim, psnr_db, ssim
from models.stability_measures import air_xor_fraction, dice, edge_shift_mm
from models.structure import deformation
from models.training.comparators import Comparator, tuned_comparators, tuning_pairs
from models.training.pairs import SimulatedPair, simulated_pair
from models.training.report import Example, Measures, Quality, Report, draw_page, write_html
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

EVALUATION_NOISE_SD_HU = (25.0, 45.0)
"""Clinical range; one value per patient."""
BEFORE, AFTER, TRUTH, FLOOR = "before", "after", "truth", "floor"
"""The input, what the model makes of it, the planning CT, and the input measured again with other noise."""
_SEED, _FLOOR_SEED, _TUNING_SEED = 20_000, 20_001, 30_000
"""Apart from every seed a training would use: the test noise is its own."""
_BONE_ABOVE_HU = 200.0
_SOFT_TISSUE_HU = (-200.0, 200.0)
_MOST_EXAMPLES = 4
_SHOWN_MARGIN_PIXELS = 4


def evaluate(
    weights: str,
    volumes: Sequence[TrainingVolume],
    output: Path,
    progress: Callable[[float, str], None] = nobody,
    comparators: bool = True,
) -> Mapping[str, float]:
    """Figures by name, NAME_WHO_UNIT: mean over the test patients, and SD under that name with _sd.

    WHO is before, after, truth, floor or a comparator. Structure is measured against the input; its value for `truth`
    (same anatomy, other contrast) and `floor` (same image, other noise) says what the measure makes of no motion.
    Measures of fidelity have no `truth`. A figure that some patients do not allow is the mean of the others.

    Test patients are those whose split says so; where no volume has a split, all are. With `comparators`, classical
    filters are tuned on the training patients, where there are any, and measured beside the model. Into `output` go
    report.html, report.json, patients.csv and before_after.png.

    Raises
    ------
    TrainingDataError
        If there is no test patient.
    models.weights.WeightsError
        If the weights can not be used.
    """
    patients = _test_patients(volumes)
    model = load_generator(weights)
    output.mkdir(parents=True, exist_ok=True)
    filters = _comparators(volumes, progress) if comparators else {}
    rows: list[Measures] = []
    examples: list[Example] = []
    for number, volume in enumerate(patients):
        row, example = _patient(model, filters, volume)
        rows.append(row)
        examples = [*examples, example][:_MOST_EXAMPLES]
        progress((number + 1) / len(patients), "evaluating")
    tuned = {name: comparator.parameters for name, comparator in filters.items()}
    report = Report(model.card, [volume.patient_id for volume in patients], rows, tuned)
    figures = {**report.figures(), "patients": float(len(rows)), "peak_memory_gib": _peak_memory_gib()}
    draw_page(examples, output / "before_after.png")
    write_html(report, output / "before_after.png", output / "report.html")
    _write_rows(report, output / "patients.csv")
    (output / "report.json").write_text(json.dumps({**report.record(), "figures": figures}, indent=2), encoding="utf-8")
    return figures


def _test_patients(volumes: Sequence[TrainingVolume]) -> list[TrainingVolume]:
    patients = of_split(volumes, "test")
    if not any(volume.split for volume in volumes):
        patients = list(volumes)
    if not patients:
        raise TrainingDataError("there is no test patient")
    return patients


def _comparators(volumes: Sequence[TrainingVolume], progress: Callable[[float, str], None]) -> Mapping[str, Comparator]:
    """Tuned on the training patients; none where the data do not say which these are."""
    training = [volume for volume in volumes if volume.split == "train"]
    if not training:
        return {}
    progress(0.0, "tuning comparators")
    return tuned_comparators(tuning_pairs(training, EVALUATION_NOISE_SD_HU, _TUNING_SEED))


def _patient(
    model: EnhancementModel, comparators: Mapping[str, Comparator], volume: TrainingVolume
) -> tuple[Measures, Example]:
    """All measures of one patient, and what the page shows of it."""
    pair = simulated_pair(volume, EVALUATION_NOISE_SD_HU, _SEED)
    start = time.perf_counter()
    converted = enhanced(model, pair.mvct_hu_zyx, volume.spacing_zyx_mm)
    seconds = time.perf_counter() - start
    filtered = {name: made(pair.mvct_hu_zyx, volume.spacing_zyx_mm[1]) for name, made in comparators.items()}
    images = {BEFORE: pair.mvct_hu_zyx, **filtered, AFTER: converted, TRUTH: volume.hu_zyx}
    regions = regions_of(volume.hu_zyx, pair.body, volume.spacing_zyx_mm[1])
    repeated = simulated_pair(volume, EVALUATION_NOISE_SD_HU, _FLOOR_SEED).mvct_hu_zyx
    measures = image_measures(pair, images, regions) | structure_measures(pair, {**images, FLOOR: repeated})
    return {**measures, ("seconds_per_slice", "", ""): seconds / len(volume.hu_zyx)}, _example(pair, images, regions)


def image_measures(pair: SimulatedPair, images: Mapping[str, Hu], regions: Regions) -> Measures:
    """Fidelity to the truth and image quality of every image."""
    truth = pair.volume.hu_zyx
    measures: Measures = {}
    for who, image in images.items():
        fidelity = {} if who == TRUTH else _fidelity(image, truth, pair.body)
        values = {**fidelity, **measured(image, truth, regions)}
        measures |= {(name, who, unit): value for (name, unit), value in values.items()}
    return measures


def structure_measures(pair: SimulatedPair, images: Mapping[str, Hu]) -> Measures:
    """How far the anatomy of every image differs from that of the input; the input itself is left out."""
    before, spacing = pair.mvct_hu_zyx, pair.volume.spacing_zyx_mm
    measures: Measures = {}
    for who, image in images.items():
        if who == BEFORE or not pair.body.any():
            continue
        moved = deformation(before, image, pair.body, spacing)
        measures["deformation_mean", who, "mm"] = moved.mean_mm
        measures["deformation_p95", who, "mm"] = moved.p95_mm
        measures["edge_shift", who, "mm"] = edge_shift_mm(before, image, spacing)
        measures["air_xor", who, "fraction"] = air_xor_fraction(before, image, pair.body)
        measures["body_dice", who, ""] = dice(body_mask(before), body_mask(image))
    return measures


def _fidelity(image: Hu, truth: Hu, body: Mask) -> Quality:
    """Closeness to the truth, by (name, unit); a tissue that the patient does not show is left out."""
    tissues = {
        "mae": body,
        "mae_soft_tissue": body & (truth > _SOFT_TISSUE_HU[0]) & (truth < _SOFT_TISSUE_HU[1]),
        "mae_bone": body & (truth > _BONE_ABOVE_HU),
    }
    errors = {(name, "hu"): mae_hu(image, truth, mask) for name, mask in tissues.items() if mask.any()}
    if not body.any():
        return errors
    return {
        **errors,
        ("psnr", "db"): psnr_db(image, truth, body),
        ("ssim", ""): ssim(image, truth, body),
        ("ms_ssim", ""): ms_ssim(image, truth, body),
    }


def _example(pair: SimulatedPair, images: Mapping[str, Hu], regions: Regions) -> Example:
    """The slice with the most bone, where most can go wrong, cut to the body."""
    middle = int(((pair.volume.hu_zyx > _BONE_ABOVE_HU) & pair.body).sum(axis=(1, 2)).argmax())
    shown = _square_around(pair.body[middle])
    noise = {
        who: noise_power(image, regions.patches, regions.patch_pixels, regions.pixel_mm)
        for who, image in images.items()
        if regions.patches
    }
    return Example({who: np.array(image[middle][shown]) for who, image in images.items()}, noise)


def _square_around(body: Mask) -> tuple[slice, slice]:
    """The square about the body as far as the slice goes, with a margin; (row, column)."""
    rows, columns = np.nonzero(body) if body.any() else np.indices(body.shape).reshape(2, -1)
    reach = max(np.ptp(rows), np.ptp(columns)) // 2 + _SHOWN_MARGIN_PIXELS
    middles = [(int(index.min()) + int(index.max())) // 2 for index in (rows, columns)]
    row, column = (slice(max(middle - int(reach), 0), middle + int(reach) + 1) for middle in middles)
    return row, column


def _write_rows(report: Report, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["patient", *report.names()], restval="")
        writer.writeheader()
        for patient, row in report.by_patient().items():
            writer.writerow({"patient": patient, **{name: f"{value:.5g}" for name, value in row.items()}})


def _peak_memory_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0**2
