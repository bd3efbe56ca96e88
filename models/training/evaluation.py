"""Measure an enhancement model on patients it has never seen.

MVCT or CBCT are simulated from their planning CT, so that the truth is exact and no registration stands between.
"""

import csv
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from models.image_quality import Regions, measured, noise_power, regions_of
from models.inference import EnhancementModel, enhanced, load_generator, nobody
from models.intensity import BODY_THRESHOLD_HU, Hu, Mask, body_mask
from models.metrics import mae_hu, ms_ssim, psnr_db, ssim
from models.stability_measures import air_xor_fraction, dice, edge_shift_mm
from models.structure import deformation
from models.training.card import record_evaluation
from models.training.comparators import Comparator, tuned_comparators, tuning_pairs
from models.training.insert_report import insert_figures, insert_sentence, measured_inserts, write_inserts
from models.training.pairs import CLINICAL_SCANS, MODALITY_NAMES, Modality, Scans, SimulatedPair, simulated_pair
from models.training.report import Example, Measures, Quality, Report, draw_page, write_html
from models.training.volumes import TrainingDataError, TrainingVolume, of_split
from models.weights import card_path

BEFORE, AFTER, TRUTH, FLOOR = "before", "after", "truth", "floor"
"""The input, what the model makes of it, the planning CT, and the input measured again with other noise."""
_SEED, _FLOOR_SEED, _TUNING_SEED = 20_000, 20_001, 30_000
"""Apart from every seed a training would use: the test noise is its own."""
_BONE_ABOVE_HU = 200.0
_SOFT_TISSUE_HU = (-200.0, 200.0)
_DENSEST_PERCENTILE = 99.0
_MOST_EXAMPLES = 4
_SHOWN_MARGIN_PIXELS = 4


def evaluate(
    weights: str,
    volumes: Sequence[TrainingVolume],
    output: Path,
    modality: Modality = "mvct",
    progress: Callable[[float, str], None] = nobody,
    comparators: bool = True,
    record: bool = False,
) -> Mapping[str, float]:
    """Figures by name, NAME_WHO_UNIT: mean over the test patients, and SD under that name with _sd.

    WHO is before, after, truth, floor or a comparator. Structure is measured against the input; its value for `truth`
    (same anatomy, other contrast) and `floor` (same image, other noise) says what the measure makes of no motion.
    Measures of fidelity have no `truth`. A figure that some patients do not allow is the mean of the others. Bone and
    the air inside the body are found in every image by a threshold, and compared by Dice with those of the input.

    A real image of the modality has no truth, but a phantom has: where one shows the inserts of a CatPhan, their HU are
    measured before and after as well, into inserts.csv and inserts.png.

    Test patients are those whose split says so; where no volume has a split, all are. With `comparators`, classical
    filters are tuned on the training patients, where there are any, and measured beside the model. Into `output` go
    report.html, report.json, patients.csv and before_after.png; with `record`, table and sentences also into the card.

    Raises
    ------
    TrainingDataError
        If there is neither a test patient nor a phantom.
    models.weights.WeightsError
        If the weights can not be used.
    """
    planning = [volume for volume in volumes if volume.domain == "planning_ct"]
    model = load_generator(weights)
    output.mkdir(parents=True, exist_ok=True)
    inserts = measured_inserts(model, [volume for volume in volumes if volume.domain == modality])
    if inserts:
        write_inserts(inserts, output)
    if inserts and not planning:
        return insert_figures(inserts)
    tested = _test_volumes(planning)
    scans = CLINICAL_SCANS[modality]
    filters = _comparators(planning, scans, progress) if comparators else {}
    rows: dict[str, list[Measures]] = {}
    examples: list[Example] = []
    for number, volume in enumerate(tested):
        row, example = _measured(model, filters, volume, scans)
        rows.setdefault(volume.patient_id, []).append(row)
        examples = [*examples, example][:_MOST_EXAMPLES]
        progress((number + 1) / len(tested), "evaluating")
    tuned = {name: comparator.parameters for name, comparator in filters.items()}
    said = [insert_sentence(inserts)] if inserts else []
    by_patient = [_mean(several) for several in rows.values()]
    report = Report(model.card, MODALITY_NAMES[modality], list(rows), by_patient, tuned, said)
    figures = {
        **report.figures(),
        **insert_figures(inserts),
        "patients": float(len(rows)),
        "peak_memory_gib": _peak_memory_gib(),
    }
    draw_page(examples, output / "before_after.png")
    write_html(report, output / "before_after.png", output / "report.html")
    _write_rows(report, output / "patients.csv")
    (output / "report.json").write_text(json.dumps({**report.record(), "figures": figures}, indent=2), encoding="utf-8")
    if record:
        record_evaluation(card_path(weights), model.card, figures, report.markdown())
    return figures


def _test_volumes(volumes: Sequence[TrainingVolume]) -> list[TrainingVolume]:
    patients = of_split(volumes, "test")
    if not any(volume.split for volume in volumes):
        patients = list(volumes)
    if not patients:
        raise TrainingDataError("there is no test patient")
    return patients


def _comparators(
    volumes: Sequence[TrainingVolume], scans: Scans, progress: Callable[[float, str], None]
) -> Mapping[str, Comparator]:
    """Tuned on the training patients; none where the data do not say which these are."""
    training = [volume for volume in volumes if volume.split == "train"]
    if not training:
        return {}
    progress(0.0, "tuning comparators")
    return tuned_comparators(tuning_pairs(training, scans, _TUNING_SEED))


def _measured(
    model: EnhancementModel, comparators: Mapping[str, Comparator], volume: TrainingVolume, scans: Scans
) -> tuple[Measures, Example]:
    """All measures of one volume, and what the page shows of it."""
    pair = simulated_pair(volume, scans, _SEED)
    truth = pair.volume.hu_zyx
    start = time.perf_counter()
    converted = enhanced(model, pair.sparse_hu_zyx, volume.spacing_zyx_mm)
    seconds = time.perf_counter() - start
    filtered = {name: made(pair.sparse_hu_zyx, volume.spacing_zyx_mm[1]) for name, made in comparators.items()}
    images = {BEFORE: pair.sparse_hu_zyx, **filtered, AFTER: converted, TRUTH: truth}
    regions = regions_of(truth, pair.body, volume.spacing_zyx_mm[1])
    repeated = simulated_pair(volume, scans, _SEED, noise_seed=_FLOOR_SEED).sparse_hu_zyx
    measures = image_measures(pair, images, regions) | structure_measures(pair, {**images, FLOOR: repeated})
    return {**measures, ("seconds_per_slice", "", ""): seconds / len(truth)}, _example(pair, images, regions)


def _mean(rows: Sequence[Measures]) -> Measures:
    """Of several volumes of one patient; a measure that one does not allow is the mean of the others."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: float(np.mean([row[key] for row in rows if key in row])) for key in keys}


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
    before, spacing = pair.sparse_hu_zyx, pair.volume.spacing_zyx_mm
    pixel_mm, organs = spacing[1], _threshold_organs(before, pair.body)
    measures: Measures = {}
    for who, image in images.items():
        if who == BEFORE or not pair.body.any():
            continue
        moved = deformation(before, image, pair.body, spacing)
        measures["deformation_mean", who, "mm"] = moved.mean_mm
        measures["deformation_p95", who, "mm"] = moved.p95_mm
        measures["deformation_p95", who, "voxel"] = moved.p95_mm / pixel_mm
        measures["edge_shift", who, "mm"] = edge_shift_mm(before, image, spacing)
        measures["edge_shift", who, "voxel"] = measures["edge_shift", who, "mm"] / pixel_mm
        measures["air_xor", who, "fraction"] = air_xor_fraction(before, image, pair.body)
        measures["body_dice", who, ""] = dice(body_mask(before), body_mask(image))
        for organ, mask in _threshold_organs(image, pair.body).items():
            if organs[organ].any():
                measures[f"{organ}_dice", who, ""] = dice(organs[organ], mask)
    return measures


def _threshold_organs(hu_zyx: Hu, body: Mask) -> Mapping[str, Mask]:
    """What a threshold finds without a network: bone, and the air of the airways inside the body.

    The noise of one voxel is no organ: the image is smoothed first, and each image has its own threshold for bone, as
    bone is half as bright in MVCT.
    """
    smooth = ndimage.gaussian_filter(hu_zyx, (0.0, 1.0, 1.0))
    above_soft_tissue = smooth[body] - np.median(smooth[body])
    bone_hu = np.median(smooth[body]) + 0.5 * np.percentile(above_soft_tissue, _DENSEST_PERCENTILE)
    return {"bone": body & (smooth > bone_hu), "inner_air": body & (smooth < BODY_THRESHOLD_HU)}


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
