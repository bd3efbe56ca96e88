"""What do window and class weights do to a segmentation? One training for each pair of them, all else the same.

The published pelvic segmentation saw CT through one window from air to soft tissue and gave its smallest organs
weights of 100 and 1000; both are compared with what one would do otherwise, over the updates and at the end
(https://github.com/shizuo-kaji/PairedVolumeTranslation). The test patients stay unseen.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from models.inference import nobody
from models.training.checkpoint import RunFiles
from models.training.organ_patches import OrganPatches
from models.training.organ_volumes import OrganVolume, organ_data_sha256
from models.training.progress import Progress, part
from models.training.segmentation import SegmentationRun, judged_batches, of_split
from models.training.segmentation_settings import SOFT_TISSUE_WINDOW_HU, WIDE_WINDOW_HU, SegmentationSettings
from models.training.volumes import TrainingDataError

WINDOWS_HU: Mapping[str, tuple[tuple[float, float], ...] | None] = {
    "air to soft tissue": (WIDE_WINDOW_HU,),
    "soft tissue": (SOFT_TISSUE_WINDOW_HU,),
    "all of the settings": None,
}
"""By name; None: those of the settings."""
WEIGHTS = ("equal", "by inverse volume", "as published")
"""How much each organ counts."""
_PUBLISHED = (1000.0, 100.0)
"""Weights of the smallest organ and of the next one; all else has 1."""


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    windows: str
    weights: str

    @property
    def stem(self) -> str:
        """As a file is called."""
        return f"{self.windows}, {self.weights}".replace(", ", "__").replace(" ", "_")


@dataclass(frozen=True)
class VariantResult:
    """What one training gave: Dice over patches of the validation patients."""

    variant: Variant
    updates: tuple[int, ...]
    dice: Mapping[str, tuple[float, ...]]
    """By organ, after each of the updates."""

    def mean(self, row: int) -> float:
        """Over the organs; row -1 is the end."""
        return float(np.mean([values[row] for values in self.dice.values()]))


@dataclass(frozen=True)
class StudyData:
    """What every training of a study has in common."""

    training: Sequence[OrganVolume]
    patches: OrganPatches
    """Of the training patients."""
    validation: OrganPatches


def variants() -> list[Variant]:
    """Every window with every kind of weights."""
    return [Variant(*pair) for pair in product(WINDOWS_HU, WEIGHTS)]


def studied(
    volumes: Sequence[OrganVolume], settings: SegmentationSettings, output: Path, progress: Progress = nobody
) -> list[VariantResult]:
    """Run the trainings that are not there yet; they are kept in `output/cells`, under a digest of settings and data.

    Raises
    ------
    TrainingDataError
        If there is no training patient or no validation patient with organs.
    """
    training, validation = of_split(volumes, "train"), of_split(volumes, "validation")
    if not training or not validation:
        raise TrainingDataError("the study needs training and validation patients with organs")
    identity = [settings.sha256(), organ_data_sha256(training), organ_data_sha256(validation)]
    data = StudyData(training, OrganPatches(training, settings), OrganPatches(validation, settings))
    folder = output / "cells" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    found, every = [], variants()
    for number, variant in enumerate(every):
        share = part(progress, number / len(every), (number + 1) / len(every))
        found.append(run_variant(variant, data, settings, folder, share))
    return found


def run_variant(
    variant: Variant,
    data: StudyData,
    settings: SegmentationSettings,
    folder: Path,
    progress: Progress = nobody,
) -> VariantResult:
    """Train one variant, or read what an earlier run gave; goes on from the checkpoint of an interrupted one.

    Raises
    ------
    TrainingDataError
        As of `models.training.segmentation.train`.
    """
    result = folder / f"{variant.stem}.json"
    if result.exists():
        return _read(result)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = varied(settings, variant, data.training)
    checkpoint, log = folder / f"{variant.stem}.checkpoint.json", folder / f"{variant.stem}.csv"
    files = RunFiles(checkpoint, log, organ_data_sha256(data.training))
    patches, judged = data.patches.seen_otherwise(chosen), data.validation.seen_otherwise(chosen)
    run = SegmentationRun(chosen, patches, files, judged_batches(judged, chosen))
    run.to_the_end(lambda done, _: progress(done, f"{variant.windows}, {variant.weights}"))
    found = VariantResult(variant, *_logged(log, chosen.organs))
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
    partial.replace(result)
    for leftover in folder.glob(f"{checkpoint.name}*"):
        leftover.unlink()
    return found


def varied(
    settings: SegmentationSettings, variant: Variant, training: Sequence[OrganVolume]
) -> SegmentationSettings:  # fmt: skip
    """The settings with the windows and weights of the variant."""
    windows = WINDOWS_HU[variant.windows] or settings.windows_hu
    weights = class_weights(variant.weights, training)
    return replace(settings, windows_hu=windows, losses=replace(settings.losses, classes=weights))


def class_weights(kind: str, training: Sequence[OrganVolume]) -> tuple[float, ...]:
    """Weight of the background and of each organ; volumes are means over the patients in whom it was drawn.

    Raises
    ------
    TrainingDataError
        If an organ was drawn in nobody.
    """
    volumes = _mean_volumes(training)
    if kind == "equal":
        return (1.0,) * (1 + len(volumes))
    if kind == "by inverse volume":
        return (1.0, *(float(volumes.max() / volume) for volume in volumes))
    weights = np.ones(1 + len(volumes))
    for organ, weight in zip(np.argsort(volumes), _PUBLISHED, strict=False):
        weights[1 + organ] = weight
    return tuple(weights.tolist())


def write_rows(path: Path, results: Sequence[VariantResult]) -> None:
    """CSV: a row for each variant, organ and number of updates."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["windows", "weights", "organ", "updates", "dice"])
        writer.writerows(_rows(results))


def _rows(results: Sequence[VariantResult]) -> Iterator[tuple[str, str, str, int, str]]:
    for one in results:
        for organ, values in one.dice.items():
            for update, dice in zip(one.updates, values, strict=True):
                yield one.variant.windows, one.variant.weights, organ, update, f"{dice:.4f}"


def _mean_volumes(training: Sequence[OrganVolume]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """mm3 of each organ."""
    means = []
    for number, organ in enumerate(training[0].organs):
        drawn = [one for one in training if one.drawn[number] and (one.labels_zyx == 1 + number).any()]
        if not drawn:
            raise TrainingDataError(f"{organ} was drawn in no training patient")
        sizes = [
            float((one.labels_zyx == 1 + number).sum()) * float(np.prod(one.volume.spacing_zyx_mm)) for one in drawn
        ]
        means.append(float(np.mean(sizes)))
    return np.array(means)


def _logged(log: Path, organs: Sequence[str]) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
    """Updates and Dice of every organ that the validation patients have, as the training wrote them down."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    measured = [organ for organ in organs if all(row[f"dice_{organ}"] for row in rows)]
    dice = {organ: tuple(float(row[f"dice_{organ}"]) for row in rows) for organ in measured}
    return tuple(int(row["update"]) for row in rows), dice


def _read(path: Path) -> VariantResult:
    content = json.loads(path.read_text(encoding="utf-8"))
    dice = {organ: tuple(values) for organ, values in content["dice"].items()}
    return VariantResult(Variant(**content["variant"]), tuple(content["updates"]), dice)
