"""What the gate finds of failures that are planted into the organs found in held-out patients.

python -m tests.benchmarks.planted_organ_failures [--patients N] [--cache DIR] [--card WEIGHTS]

CT of the test patients of OpenKBP below RTNODE_DATA, organs by the shipped weights. Failures go into what the network
found, or into its input, and are judged by the functions that the pipeline calls, at the limits of the card.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Hu, Mask
from models.organ_finder import OrganFinder, OwnNetwork, load_organ_finder
from models.organ_plausibility import POLICY, plausibility_measures
from models.stability_measures import Spacing
from models.training.volumes import TrainingVolume, read_volume
from models.unet import Architecture, SegmentationNetwork
from models.weights import Card, load_card, load_weights
from tests.benchmarks import planting
from tests.benchmarks.gate_table import CLEAN, Judged, judge, table

WEIGHTS = "segment_headneck"
DATA = Path(os.environ.get("RTNODE_DATA", "../shared/data"))
_SEED = 20_000
_INPUT_FAILURES_OF = 2
_RANDOM_PART = 0.05
_NOISE_SD_HU = 60.0

KINDS: Mapping[str, str] = {
    CLEAN: "",
    "erased": "an organ is gone",
    "shifted_3mm": "all organs shifted by 3 mm, any direction",
    "shifted_6mm": "all organs shifted by 6 mm",
    "exchanged": "left and right organs have changed names",
    "mirrored": "all masks mirrored",
    "blob": "a ball of 10 mm of an organ, elsewhere in the body",
    "swollen": "an organ 5 mm larger on all sides",
    "wrong_patient": "the organs of another patient",
    "weights": "5 % of the weights replaced by chance",
    "chest": "a chest as input",
    "noise": "60 HU of noise added",
    "metal": "two metal balls of 16 mm",
    "truncated": "field of view of three quarters of the body",
}
GROSS = ("erased", "shifted_3mm", "exchanged", "mirrored", "wrong_patient", "weights", "chest")
Found = tuple[dict[str, Mask], dict[str, float]]
"""Masks and mean probabilities, by organ."""


def kept(cache: Path, name: str, finder: Callable[[], OrganFinder], hu: Hu, spacing: Spacing) -> Found:
    """What the network found; read from the cache if it is there."""
    path, organs = cache / f"{name}.npz", load_card(WEIGHTS).segmentation
    names = organs.organs if organs else ()
    if not path.exists():
        found = finder().find(hu, spacing)
        np.savez(path, labels=found.labels_zyx, prob=[found.mean_probability[organ] for organ in names])
    with np.load(path) as arrays:
        labels, prob = arrays["labels"], arrays["prob"]
    masks = {organ: labels == number for number, organ in enumerate(names, start=1)}
    return masks, dict(zip(names, (float(value) for value in prob), strict=True))


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
    whole = load_organ_finder(WEIGHTS, bf16=True, mirror=True)
    if not isinstance(whole, OwnNetwork):
        raise TypeError("the shipped weights are of our own network")
    return OwnNetwork(replace(whole.model, network=network.eval().requires_grad_(False)))


def outputs(
    found: Found, other: Found, spacing: Spacing, hu: Hu, rng: np.random.Generator
) -> Iterator[tuple[str, Found]]:
    """Kind, and what a network that fails so would have found."""
    masks, sure = found
    there = sorted(organ for organ, mask in masks.items() if mask.any())
    drawn = there[int(rng.integers(len(there)))]
    yield CLEAN, found
    yield "erased", ({**masks, drawn: np.zeros_like(masks[drawn])}, {**sure, drawn: float("nan")})
    for mm in (3, 6):
        by = planting.direction(rng) * mm / np.array(spacing)
        moved = {organ: ndimage.shift(mask.astype(np.float32), by, order=1) > 0.5 for organ, mask in masks.items()}
        yield f"shifted_{mm}mm", (moved, sure)
    yield "exchanged", ({organ: masks[_other_side(organ)] for organ in masks}, sure)
    yield "mirrored", ({organ: mask[:, :, ::-1] for organ, mask in masks.items()}, sure)
    yield "blob", ({**masks, drawn: masks[drawn] | _blob(hu, spacing, rng)}, sure)
    reach = ndimage.distance_transform_edt(~masks[drawn], sampling=spacing)
    yield "swollen", ({**masks, drawn: np.asarray(reach <= 5.0)}, sure)
    yield "wrong_patient", ({organ: _fitted(mask, hu.shape) for organ, mask in other[0].items()}, other[1])


def inputs(
    volume: TrainingVolume, number: int, cache: Path, rng: np.random.Generator
) -> Iterator[tuple[str, Found, Hu, Spacing]]:
    """Kind, what the network found, and the image that it found it in."""
    spacing = volume.spacing_zyx_mm

    def whole() -> OrganFinder:
        return load_organ_finder(WEIGHTS, bf16=True, mirror=True)

    name = f"{volume.patient_id}"
    yield (
        "weights",
        kept(cache, f"{name}_weights", lambda: corrupted(number), volume.hu_zyx, spacing),
        volume.hu_zyx,
        spacing,
    )
    noisy = volume.hu_zyx + rng.normal(0.0, _NOISE_SD_HU, volume.hu_zyx.shape).astype(np.float32)
    images = {
        "noise": (noisy, spacing),
        "metal": (planting.with_metal(volume.hu_zyx, spacing, rng).clip(max=3071.0), spacing),
        "truncated": (planting.truncated(volume.hu_zyx), spacing),
    }
    chest = read_volume(DATA / "real_ct_npz_256" / "lidc_0314_chest.npz")
    images["chest"] = (planting.coarsened(chest, number, 96).hu_zyx, planting.coarsened(chest, number).spacing_zyx_mm)
    for kind, (image, mm) in images.items():
        yield kind, kept(cache, f"{name}_{kind}", whole, image, mm), image, mm


def _other_side(organ: str) -> str:
    sides = {"_L": "_R", "_R": "_L"}
    return organ[:-2] + sides[organ[-2:]] if organ[-2:] in sides else organ


def _blob(hu: Hu, spacing: Spacing, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.asarray(planting.with_blob(np.clip(hu, -1000.0, 1000.0), spacing, 10.0, 5000.0, rng) > 3000.0)


def _fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    return planting.fitted(np.where(mask, 0.0, -1000.0).astype(np.float32), shape) > -500.0


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("runs/planted_organs"))
    parser.add_argument("--card", default=WEIGHTS, help="weights whose card has the limits")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    card = load_card(options.card)
    files = [path for path in sorted((DATA / "openkbp").glob("*.npz")) if read_volume(path).split == "test"]
    cases = [
        case
        for number, file in enumerate(files[: options.patients])
        for case in _of_patient(number, file, files, options.cache, card, options.card != WEIGHTS)
    ]
    sys.stdout.write(table(cases, KINDS, GROSS))


def _of_patient(
    number: int, file: Path, files: list[Path], cache: Path, card: Card, only_limited: bool
) -> Iterator[Judged]:  # fmt: skip
    volume, rng = read_volume(file), np.random.default_rng([_SEED, number])
    found, other = (_found(path, cache) for path in (file, files[(number + 1) % len(files)]))
    limits = {**card.limits, **POLICY}
    for kind, (masks, sure) in outputs(found, other, volume.spacing_zyx_mm, volume.hu_zyx, rng):
        measures = plausibility_measures(card, volume.hu_zyx, volume.spacing_zyx_mm, masks, sure)
        yield judge(kind, measures, limits, only_limited)
    if number < _INPUT_FAILURES_OF:
        for kind, (masks, sure), image, spacing in inputs(volume, number, cache, rng):
            yield judge(kind, plausibility_measures(card, image, spacing, masks, sure), limits, only_limited)


def _found(file: Path, cache: Path) -> Found:
    volume = read_volume(file)
    finder = lambda: load_organ_finder(WEIGHTS, bf16=True, mirror=True)  # noqa: E731
    return kept(cache, file.stem, finder, volume.hu_zyx, volume.spacing_zyx_mm)


if __name__ == "__main__":
    main()
