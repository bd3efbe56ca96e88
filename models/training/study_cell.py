"""One cell of a data-size study: a training on so many slices with one seed, judged on the validation patients."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from models.inference import enhanced, load_generator, nobody
from models.intensity import Hu
from models.metrics import mae_hu, psnr_db, ssim
from models.stability_measures import air_xor_fraction, edge_shift_mm
from models.structure import deformation
from models.training.card import Origin, finished_weights, training_domain
from models.training.checkpoint import RunFiles
from models.training.kept_pairs import read_pair
from models.training.pairs import MODALITY_NAMES, SimulatedPair
from models.training.run import TrainingRun
from models.training.settings import TrainingSettings
from models.training.slices import TrainingSlices, sparse_images
from models.training.study_data import middle_slices

QUALITY = ("mae_hu", "ssim", "psnr_db")
"""Measured against the truth."""
STRUCTURE = ("deformation_p95_mm", "edge_shift_mm", "air_xor_fraction")
"""Measured against the input."""

Values: TypeAlias = dict[str, float]
"""By name of the measure."""

_TRAINING_SHARE = 0.9
"""Part of the cell's progress that the training takes."""


@dataclass(frozen=True)
class JudgedImage:
    """One validation volume: files of the input and of the same patient scanned again, and how much is judged."""

    pair: Path
    repeated: Path
    most_slices: int

    def before(self) -> SimulatedPair:
        """The judged slices of the input, with their truth."""
        return middle_slices(read_pair(self.pair), self.most_slices)

    def again(self) -> SimulatedPair:
        """The same slices of the other scan."""
        return middle_slices(read_pair(self.repeated), self.most_slices)


@dataclass(frozen=True)
class CellOrder:
    """All that a worker needs for one cell; images as paths."""

    size: int
    settings: TrainingSettings
    """With the seed of the cell."""
    training: Mapping[Path, Sequence[int]]
    """Slices of each simulated pair."""
    patients: int
    """Number of patients the slices come from."""
    validation: Sequence[JudgedImage]
    result: Path

    @property
    def finished(self) -> bool:
        """Whether the result has been written."""
        return self.result.exists()


@dataclass(frozen=True)
class Cell:
    """What one training gave."""

    size: int
    seed: int
    patients: int
    """Number of training patients."""
    values: Mapping[str, Values]
    """By validation patient."""

    def mean(self, measure: str) -> float:
        """Mean over the validation patients."""
        return float(np.mean([values[measure] for values in self.values.values()]))


def run_cell(order: CellOrder, progress: Callable[[float, str], None] = nobody) -> None:
    """Train, judge, write the result; goes on from the checkpoint of an interrupted training and removes it after."""
    folder = order.result.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    weights = _trained(order, folder, lambda done, what: progress(_TRAINING_SHARE * done, what))
    values = _judged(weights, order.validation)
    cell = Cell(order.size, order.settings.seed, order.patients, values)
    partial = order.result.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(cell)), encoding="utf-8")
    partial.replace(order.result)
    shutil.rmtree(folder)
    progress(1.0, "judging")


def run_cell_on_one_thread(order: CellOrder) -> None:
    """`run_cell` for one of several worker processes."""
    torch.set_num_threads(1)
    run_cell(order)


def read_cell(path: Path) -> Cell:
    """A cell as `run_cell` wrote it."""
    return Cell(**json.loads(path.read_text(encoding="utf-8")))


def values_without_model(validation: Sequence[JudgedImage]) -> Values:
    """What the measures give without any model, mean over patients: the line that a figure is compared with.

    Quality is that of the input. Structure is that of the same image with other noise, which has not moved: against
    itself, the input would have 0 and say nothing about the measure.
    """
    by_patient: dict[str, list[Values]] = {}
    for image in validation:
        pair = image.before()
        values = {**quality(pair, pair.sparse_hu_zyx), **structure(pair, image.again().sparse_hu_zyx)}
        by_patient.setdefault(pair.volume.patient_id, []).append(values)
    return _mean(list(_by_patient(by_patient).values()))


def quality(pair: SimulatedPair, image_hu_zyx: Hu) -> Values:
    """Closeness of an image to the planning CT, inside the body."""
    truth = pair.volume.hu_zyx
    return {
        "mae_hu": mae_hu(image_hu_zyx, truth, pair.body),
        "ssim": ssim(image_hu_zyx, truth, pair.body),
        "psnr_db": psnr_db(image_hu_zyx, truth, pair.body),
    }


def structure(pair: SimulatedPair, image_hu_zyx: Hu) -> Values:
    """How far the anatomy of an image lies from that of the input."""
    before, spacing = pair.sparse_hu_zyx, pair.volume.spacing_zyx_mm
    return {
        "deformation_p95_mm": deformation(before, image_hu_zyx, pair.body, spacing).p95_mm,
        "edge_shift_mm": edge_shift_mm(before, image_hu_zyx, spacing),
        "air_xor_fraction": air_xor_fraction(before, image_hu_zyx, pair.body),
    }


def _trained(order: CellOrder, folder: Path, progress: Callable[[float, str], None]) -> Path:
    """Weights of the trained generator; their card knows no limits, as nobody will use them on a patient."""
    settings = order.settings
    pairs = [read_pair(path) for path in order.training]
    neighbours, chosen = settings.architecture.slices, list(order.training.values())
    slices = TrainingSlices.of_pairs(pairs, settings.window_hu, settings.crop_pixels, neighbours, chosen)
    # The folder of a cell is named by its images.
    run = TrainingRun(
        settings, slices, RunFiles(folder / "run.checkpoint.json", folder / "run.csv", folder.parent.name)
    )
    run.to_the_end(progress)
    modality = f"simulated {MODALITY_NAMES[settings.scans.modality]}"
    domain = training_domain(modality, sparse_images(pairs), [pair.volume.spacing_zyx_mm for pair in pairs])
    origin = Origin(domain, is_simulated=True)
    return finished_weights(run.average, settings, origin, [], folder / "run.safetensors", nobody)


def _judged(weights: Path, validation: Sequence[JudgedImage]) -> Mapping[str, Values]:
    """Measures by validation patient."""
    model = load_generator(str(weights))
    by_patient: dict[str, list[Values]] = {}
    for image in validation:
        pair = image.before()
        output = enhanced(model, pair.sparse_hu_zyx, pair.volume.spacing_zyx_mm)
        values = {**quality(pair, output), **structure(pair, output)}
        by_patient.setdefault(pair.volume.patient_id, []).append(values)
    return _by_patient(by_patient)


def _by_patient(values: Mapping[str, Sequence[Values]]) -> Mapping[str, Values]:
    """One row for each patient, however many volumes there are."""
    return {patient: _mean(rows) for patient, rows in values.items()}


def _mean(rows: Sequence[Values]) -> Values:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
