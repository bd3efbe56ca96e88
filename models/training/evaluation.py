"""Measure an enhancement model on patients it has never seen: MVCT simulated from their CT, so the truth is exact."""

import csv
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.inference import EnhancementModel, enhanced, load_generator, nobody
from models.intensity import Hu, Mask
from models.metrics import mae_hu, psnr_db, ssim
from models.training.pairs import SimulatedPair, simulated_pair
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

EVALUATION_NOISE_SD_HU = (25.0, 45.0)
"""Clinical range; one value per patient."""
_SEED = 20_000
"""Apart from every seed a training would use: the test noise is its own."""
_BONE_ABOVE_HU = 200.0
_SOFT_TISSUE_HU = (-200.0, 200.0)
_DISPLAY_HU = (-250.0, 350.0)
_DIFFERENCE_HU = 200.0


def evaluate(
    weights: str, volumes: Sequence[TrainingVolume], output: Path, progress: Callable[[float, str], None] = nobody
) -> Mapping[str, float]:
    """Figures by name (unit in the name): mean over the test patients, and SD under NAME_sd.

    Test patients are those whose split says so; where no volume has a split, all are. Into `output` go figures.json,
    patients.csv and page.png (input, output, truth, difference).

    Raises
    ------
    TrainingDataError
        If there is no test patient.
    models.weights.WeightsError
        If the weights can not be used.
    """
    patients = of_split(volumes, "test")
    if not any(volume.split for volume in volumes):
        patients = list(volumes)
    if not patients:
        raise TrainingDataError("there is no test patient")
    model = load_generator(weights)
    output.mkdir(parents=True, exist_ok=True)
    rows, examples = [], []
    for number, volume in enumerate(patients):
        pair = simulated_pair(volume, EVALUATION_NOISE_SD_HU, _SEED)
        figures, converted = _patient_figures(model, pair)
        rows.append(figures)
        examples.append(_example(pair, converted))
        progress((number + 1) / len(patients), "evaluating")
    _write_rows(output / "patients.csv", [volume.patient_id for volume in patients], rows)
    draw_page(examples[:4], output / "page.png")
    figures = {**_summary(rows), "patients": float(len(rows)), "peak_memory_gib": _peak_memory_gib()}
    (output / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return figures


def draw_page(examples: Sequence[tuple[Hu, Hu, Hu]], png: Path) -> None:
    """One row for each (input, output, truth), [row, column] in HU; the last column is output minus truth."""
    figure = Figure(figsize=(12, 3.1 * len(examples)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(examples), 4, squeeze=False)
    for axes, (before, after, truth) in zip(grid, examples, strict=True):
        for axis, image in zip(axes[:3], (before, after, truth), strict=True):
            axis.imshow(image, cmap="gray", vmin=_DISPLAY_HU[0], vmax=_DISPLAY_HU[1])
        axes[3].imshow(after - truth, cmap="RdBu_r", vmin=-_DIFFERENCE_HU, vmax=_DIFFERENCE_HU)
    for axis, title in zip(grid[0], ("input", "output", "truth", "output - truth, +-200 HU"), strict=True):
        axis.set_title(title)
    for axis in grid.flat:
        axis.set_axis_off()
    figure.savefig(png, dpi=90)


def _patient_figures(model: EnhancementModel, pair: SimulatedPair) -> tuple[dict[str, float], Hu]:
    start = time.perf_counter()
    converted = enhanced(model, pair.mvct_hu_zyx, pair.volume.spacing_zyx_mm)
    seconds = time.perf_counter() - start
    truth = pair.volume.hu_zyx
    before = _quality(pair.mvct_hu_zyx, truth, pair.body)
    after = _quality(converted, truth, pair.body)
    figures = {f"{name}_before_{unit}".rstrip("_"): value for (name, unit), value in before.items()}
    figures |= {f"{name}_after_{unit}".rstrip("_"): value for (name, unit), value in after.items()}
    return {**figures, "seconds_per_slice": seconds / len(truth)}, converted


def _quality(image: Hu, truth: Hu, body: Mask) -> dict[tuple[str, str], float]:
    """All measures of one image, by (name, unit)."""
    soft = body & (truth > _SOFT_TISSUE_HU[0]) & (truth < _SOFT_TISSUE_HU[1])
    bone = body & (truth > _BONE_ABOVE_HU)
    return {
        ("mae", "hu"): mae_hu(image, truth, body),
        ("mae_soft_tissue", "hu"): mae_hu(image, truth, soft),
        ("mae_bone", "hu"): mae_hu(image, truth, bone),
        ("psnr", "db"): psnr_db(image, truth, body),
        ("ssim", ""): ssim(image, truth, body),
    }


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    summary: dict[str, float] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        summary[name] = float(np.mean(values))
        # Sample SD needs two patients.
        summary[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return summary


def _example(pair: SimulatedPair, converted: Hu) -> tuple[Hu, Hu, Hu]:
    """The slice with the most bone: where most can go wrong."""
    middle = int(((pair.volume.hu_zyx > _BONE_ABOVE_HU) & pair.body).sum(axis=(1, 2)).argmax())
    return pair.mvct_hu_zyx[middle], converted[middle], pair.volume.hu_zyx[middle]


def _write_rows(path: Path, patient_ids: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", *rows[0]])
        writer.writerows(
            [patient, *(f"{value:.5g}" for value in row.values())]
            for patient, row in zip(patient_ids, rows, strict=True)
        )


def _peak_memory_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0**2
