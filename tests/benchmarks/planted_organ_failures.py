"""What the gate finds of failures that are planted into the organs found in held-out patients.

python -m tests.benchmarks.planted_organ_failures [--patients N] [--split test] [--cache DIR] [--weights WEIGHTS]

CT of the test patients of OpenKBP below RTNODE_DATA, organs by the shipped weights. Failures go into what the network
found, or into its input, and are judged by the functions that the pipeline calls, at the limits of the card. What the
network misses by itself is told apart: of each patient, only organs that it found are wanted, so that an organ that was
missing before does not give every failure away.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from scipy import ndimage

from models.engines import has_bf16
from models.intensity import Hu, Mask
from models.organ_finder import OrganFinder, OwnNetwork, load_organ_finder
from models.organ_plausibility import POLICY, plausibility_measures
from models.segmentation import Segmentation
from models.stability_measures import Spacing
from models.training.segmentation_calibration import Found, found_in
from models.training.volumes import TrainingVolume, read_volume
from models.unet import Architecture, SegmentationNetwork
from models.weights import Card, WeightsError, card_path, load_card, load_stored, load_weights
from pipelines.stability import Verdict
from tests.benchmarks import planting
from tests.benchmarks.gate_table import CLEAN, Judged, judge, table

WEIGHTS = "segment_headneck"
DATA = Path(os.environ.get("RTNODE_DATA", "../shared/data"))
_SEED = 20_000
_INPUT_FAILURES_OF = 3
_RANDOM_PART = 0.05
_NOISE_SD_HU = 60.0
_SHIFTS_MM = (1, 2, 3)
_BLOBS_MM = (5, 10)

KINDS: Mapping[str, str] = {
    CLEAN: "",
    "erased": "an organ is gone",
    "shifted_1mm": "all organs 1 mm off the image, any direction",
    "shifted_2mm": "all organs 2 mm off the image",
    "shifted_3mm": "all organs 3 mm off the image",
    "moved": "one organ 10 mm off, any direction",
    "exchanged": "left and right organs have changed names",
    "mirrored": "all masks mirrored",
    "reordered": "eight slices of all masks in reverse order",
    "blob_5mm": "a ball of 5 mm of an organ, elsewhere in the body",
    "blob_10mm": "a ball of 10 mm of an organ, elsewhere in the body",
    "swollen": "an organ 5 mm larger on all sides",
    "wrong_patient": "the organs of another patient",
    "weights": "5 % of the weights replaced by chance, used all the same",
    "chest": "a chest as input",
    "noise": "60 HU of noise added to the input",
    "metal": "two metal balls of 16 mm in the patient",
    "truncated": "field of view of three quarters of the body",
}
GROSS = ("erased", "shifted_3mm", "exchanged", "mirrored", "reordered", "wrong_patient", "weights", "chest")


def found_by(cache: Path, name: str, finder: Callable[[], OrganFinder], hu: Hu, spacing: Spacing) -> Found:
    """What the network found; read from the cache if it is there."""
    path, task = cache / f"{name}.npz", load_card(WEIGHTS).segmentation
    organs = task.organs if task else ()
    if not path.exists():
        found = finder().find(hu, spacing)
        all_sure = [found.mean_probability[organ] for organ in organs]
        looks = [(found.look_disagreement or {}).get(organ, np.nan) for organ in organs]
        np.savez(path, labels=found.labels_zyx, sure=all_sure, looks=looks)
    with np.load(path) as kept:
        sure = dict(zip(organs, map(float, kept["sure"]), strict=True))
        by_organ = {organ: float(one) for organ, one in zip(organs, kept["looks"], strict=True) if np.isfinite(one)}
        return found_in(Segmentation(kept["labels"], organs, sure, by_organ))


def corrupted(seed: int) -> OrganFinder:
    """The shipped network with a part of its weights drawn anew, each layer with its own mean and SD."""
    card, tensors = load_weights(WEIGHTS)
    rng = np.random.default_rng([_SEED, seed])
    for tensor in tensors.values():
        values = tensor.numpy()
        hit = rng.random(values.shape) < _RANDOM_PART
        values[hit] = rng.normal(values.mean(), values.std(), int(hit.sum())).astype(values.dtype)
    network = SegmentationNetwork(Architecture(**card.architecture))
    network.load_state_dict(tensors)
    shipped = whole()
    if not isinstance(shipped, OwnNetwork):
        raise TypeError("the shipped weights are of our own network")
    return OwnNetwork(replace(shipped.model, network=network.eval().requires_grad_(False)))


def refused() -> str:
    """What is said of weights of which one value was changed on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{WEIGHTS}.safetensors"
        _, tensors = load_stored(WEIGHTS)
        next(iter(tensors.values())).flatten()[0] += 1.0
        path.write_bytes(save(tensors))
        path.with_suffix(".md").write_text(card_path(WEIGHTS).read_text(encoding="utf-8"), encoding="utf-8")
        try:
            load_organ_finder(str(path))
        except WeightsError:
            return "Weights with one changed value: refused by their SHA-256, before they are used."
    return "Weights with one changed value: NOT refused."


def planted(
    found: Found, other: Found, volume: TrainingVolume, rng: np.random.Generator
) -> Iterator[tuple[str, Mapping[str, Mask], Hu]]:
    """Kind, what would be written, and the image below it."""
    kept, hu, spacing = found.kept, volume.hu_zyx, volume.spacing_zyx_mm
    drawn = sorted(kept)[int(rng.integers(len(kept)))]
    yield CLEAN, kept, hu
    yield "erased", {**kept, drawn: np.zeros_like(kept[drawn])}, hu
    for mm in _SHIFTS_MM:
        # A mask can not be moved by a part of a pixel, the image below it can.
        z, y, x = planting.direction(rng) * mm
        yield f"shifted_{mm}mm", kept, planting.shifted(hu, spacing, (z, y, x))
    by = planting.direction(rng) * 10.0 / np.array(spacing)
    yield "moved", {**kept, drawn: ndimage.shift(kept[drawn].astype(np.float32), by, order=1) > 0.5}, hu
    yield "exchanged", {organ: kept.get(_other_side(organ), mask) for organ, mask in kept.items()}, hu
    yield "mirrored", {organ: mask[:, :, ::-1] for organ, mask in kept.items()}, hu
    yield "reordered", _reordered(kept, rng), hu
    for mm in _BLOBS_MM:
        yield f"blob_{mm}mm", {**kept, drawn: kept[drawn] | _blob(hu, spacing, float(mm), rng)}, hu
    reach = ndimage.distance_transform_edt(~kept[drawn], sampling=spacing)
    yield "swollen", {**kept, drawn: np.asarray(reach <= 5.0)}, hu
    yield "wrong_patient", {organ: _fitted(other.kept[organ], hu.shape) for organ in kept}, hu


def inputs(
    volume: TrainingVolume, number: int, cache: Path, rng: np.random.Generator
) -> Iterator[tuple[str, Found, Hu, Spacing]]:
    """Kind, what the network found, and the image that it found it in."""
    name, spacing = volume.patient_id, volume.spacing_zyx_mm
    broken = found_by(cache, f"{name}_weights", lambda: corrupted(number), volume.hu_zyx, spacing)
    yield "weights", broken, volume.hu_zyx, spacing
    noisy = volume.hu_zyx + rng.normal(0.0, _NOISE_SD_HU, volume.hu_zyx.shape).astype(np.float32)
    chest = planting.coarsened(read_volume(DATA / "real_ct_npz_256" / "lidc_0314_chest.npz"), number, 96)
    images = {
        "noise": (noisy, spacing),
        "metal": (planting.with_metal(volume.hu_zyx, spacing, rng).clip(max=3071.0), spacing),
        "truncated": (planting.truncated(volume.hu_zyx), spacing),
        "chest": (chest.hu_zyx, chest.spacing_zyx_mm),
    }
    for kind, (image, mm) in images.items():
        yield kind, found_by(cache, f"{name}_{kind}", whole, image, mm), image, mm


def whole() -> OrganFinder:
    """The shipped network, as the shipped pipeline uses it."""
    return load_organ_finder(WEIGHTS, bf16=has_bf16(), mirror=True)


def _other_side(organ: str) -> str:
    sides = {"_L": "_R", "_R": "_L"}
    return organ[:-2] + sides[organ[-2:]] if organ[-2:] in sides else organ


def _reordered(kept: Mapping[str, Mask], rng: np.random.Generator) -> dict[str, Mask]:
    """A run of slices in reverse, in the middle of what was found."""
    slices = np.flatnonzero(np.any([mask.any(axis=(1, 2)) for mask in kept.values()], axis=0))
    start = int(rng.integers(slices[len(slices) // 4], slices[3 * len(slices) // 4] - 8))
    order = np.arange(len(next(iter(kept.values()))))
    order[start : start + 8] = order[start : start + 8][::-1]
    return {organ: mask[order] for organ, mask in kept.items()}


def _blob(hu: Hu, spacing: Spacing, diameter_mm: float, rng: np.random.Generator) -> Mask:
    return np.asarray(planting.with_blob(np.clip(hu, -1000.0, 1000.0), spacing, diameter_mm, 1e5, rng) > 5e4)


def _fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    return planting.fitted(np.where(mask, 0.0, -1000.0).astype(np.float32), shape) > -500.0


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--cache", type=Path, default=Path("runs/planted_organs"))
    parser.add_argument("--weights", default=WEIGHTS, help="the shipped weights elsewhere, for the card beside them")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    card = load_card(options.weights)
    files = [path for path in sorted((DATA / "openkbp").glob("*.npz")) if read_volume(path).split == options.split]
    judged, missed = [], []
    for number, file in enumerate(files[: options.patients]):
        cases, unfound = _of_patient(number, file, files, options.cache, card)
        judged += cases
        missed += [unfound] if unfound else []
    sys.stdout.write(table(judged, KINDS, GROSS))
    sys.stdout.write(f"\n{refused()}\n{_told(missed, min(options.patients, len(files)))}\n")


def _told(missed: Sequence[tuple[Verdict, Sequence[str]]], patients: int) -> str:
    organs = [organ for _, several in missed for organ in several]
    counted = ", ".join(f"{organ} in {organs.count(organ)}" for organ in dict.fromkeys(organs))
    held = sum(verdict is Verdict.HOLD for verdict, _ in missed)
    return (
        f"Nothing planted, all organs wanted: the network itself misses an organ in {len(missed)} of {patients} "
        f"patients ({counted or 'none'}); {held} of these results are held."
    )


def _of_patient(
    number: int, file: Path, files: list[Path], cache: Path, card: Card
) -> tuple[list[Judged], tuple[Verdict, list[str]] | None]:
    """Of what was planted; and what is said of the whole, if the network missed an organ."""
    volume, rng = read_volume(file), np.random.default_rng([_SEED, number])
    everything, other = (_found(path, cache) for path in (file, files[(number + 1) % len(files)]))
    found = _wanted(everything, [organ for organ, mask in everything.kept.items() if mask.any()])
    unfound = [organ for organ in everything.kept if organ not in found.kept]
    cases = [
        _judged(card, kind, replace(found, kept=dict(kept)), hu, volume.spacing_zyx_mm)
        for kind, kept, hu in planted(found, other, volume, rng)
    ]
    if number < _INPUT_FAILURES_OF:
        for kind, seen, image, spacing in inputs(volume, number, cache, rng):
            cases.append(_judged(card, kind, _wanted(seen, list(found.kept)), image, spacing))
    if not unfound:
        return cases, None
    said = _judged(card, CLEAN, everything, volume.hu_zyx, volume.spacing_zyx_mm)
    return cases, (said.verdict, unfound)


def _wanted(found: Found, organs: Sequence[str]) -> Found:
    """Of what was found, these organs."""
    masks, kept = ({organ: of[organ] for organ in organs} for of in (found.masks, found.kept))
    return Found(masks, kept, found.mean_probability, found.look_disagreement)


def _judged(card: Card, kind: str, found: Found, hu: Hu, spacing: Spacing) -> Judged:
    measures = plausibility_measures(
        card, hu, spacing, found.masks, found.mean_probability, found.kept, found.look_disagreement
    )
    return judge(kind, measures, {**card.limits, **POLICY})


def _found(file: Path, cache: Path) -> Found:
    volume = read_volume(file)
    return found_by(cache, file.stem, whole, volume.hu_zyx, volume.spacing_zyx_mm)


if __name__ == "__main__":
    main()
