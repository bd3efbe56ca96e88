"""What the gate finds of failures that are planted into results of held-out patients, and what it holds by mistake.

python -m tests.benchmarks.planted_failures [--patients N] [--cache DIR] [--processes N] [--card FILE]

Images are simulated MVCT of the test patients of OpenKBP and of a real neck CT below RTNODE_DATA (those of its slices
that the field of view does not cut), enhanced with the shipped weights. Failures go into the output, or into the input
of the network, and are judged by the functions that the pipeline calls, at the limits of the card; `--card` judges with
those of another card, by its findings alone. A score is that of the worst finding, as of `tests.benchmarks.gate_table`;
the AUROC is that of failures against clean cases. With `--cache`, what was simulated and measured is kept there and
read again.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from models.cyclegan import Architecture, Conversion, Generator
from models.engines import REFERENCE, made_engine
from models.enhancement_measures import InputMeasured, against_usual, input_measured, output_changes
from models.inference import EnhancementModel, enhanced, load_generator
from models.intensity import Hu, Mask
from models.stability_measures import Spacing
from models.training.kept_pairs import kept_pair, read_pair
from models.training.organ_volumes import HEAD_AND_NECK_ORGANS, read_organ_volume
from models.training.pairs import CLINICAL_SCANS, Scans
from models.training.volumes import TrainingVolume, read_volume
from models.weights import Card, WeightsError, load_card, load_weights, write_card
from tests.benchmarks import planting
from tests.benchmarks.gate_table import CLEAN, judge, table

WEIGHTS = "mvct_to_kvct_headneck"
DATA = Path(os.environ.get("RTNODE_DATA", "../shared/data"))
_SEED = 20_000
_RANDOM_PART = 0.05
"""Of the weights, in the failure `weights`."""
_CLEAN_SCANS = 3
"""Of each patient, with other noise and dose."""
KINDS: Mapping[str, str] = {
    CLEAN: "",
    "shift_1mm": "output shifted by 1 mm, any direction",
    "shift_2mm": "output shifted by 2 mm",
    "shift_3mm": "output shifted by 3 mm",
    "bent_3mm": "output bent by 3 mm at the skin, SD 20 mm",
    "erased_firm": "an organ of bone or air (mandible, larynx) replaced by what is around",
    "erased_parotid": "a parotid replaced by what is around",
    "erased_inner": "brainstem or oesophagus replaced by what is around",
    "blob_5mm": "ball of 5 mm, +500 HU",
    "blob_10mm": "ball of 10 mm, +500 HU",
    "blob_10mm_soft": "ball of 10 mm, +150 HU",
    "smoothed": "output smoothed, SD 3 mm",
    "attenuation_5": "attenuation 5 % too high",
    "hu_5": "HU times 1.05",
    "flipped": "output with left and right exchanged",
    "reordered": "eight slices in reverse order",
    "exchanged": "two neighbouring slices exchanged",
    "wrong_patient": "the output of another patient",
    "weights": "5 % of the weights replaced by chance",
    "chest": "a chest as input",
    "noise_4": "four times the noise in the input",
    "metal": "two metal balls of 16 mm in the patient",
    "truncated": "field of view of three quarters of the body",
}
GROSS = (
    "shift_3mm", "erased_firm", "erased_parotid", "erased_inner", "flipped", "reordered", "wrong_patient", "weights",
    "chest",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One result with or without a failure."""

    kind: str
    patient: str
    given: Mapping[str, float]
    changes: Mapping[str, float]
    """As of `models.enhancement_measures`."""


def patients(count: int) -> list[Path]:
    """Files of the test patients and of the neck."""
    found = [path for path in sorted((DATA / "openkbp").glob("*.npz")) if read_volume(path).split == "test"]
    return [*found[:count], DATA / "real_ct_npz_256" / "tcga_thca_neck.npz"]


def _volume(file: Path) -> TrainingVolume:
    volume = read_volume(file)
    return volume if file.parent.name == "openkbp" else planting.without_truncation(volume)


def measured(number: int, files: Sequence[Path], cache: Path) -> list[Case]:
    """Every case of one patient; kept in the cache."""
    torch.set_num_threads(1)
    kept = _of_cards(cache) / f"cases_{files[number].stem}.json"
    if not kept.exists():
        found = [*_cases(number, files, cache)]
        kept.write_text(json.dumps([vars(case) for case in found]), encoding="utf-8")
    return [Case(**record) for record in json.loads(kept.read_text(encoding="utf-8"))]


def _cases(number: int, files: Sequence[Path], cache: Path) -> Iterator[Case]:
    file, model = files[number], load_generator(WEIGHTS)
    volume, rng, scans = _volume(file), np.random.default_rng([_SEED, number]), CLINICAL_SCANS["mvct"]
    spacing = volume.spacing_zyx_mm
    for scan in range(1, _CLEAN_SCANS):
        again, made = converted(model, volume, scans, cache, _SEED + scan)
        yield _case(CLEAN, file.stem, input_measured(model, again, spacing), again, made, spacing)
    before, after = converted(model, volume, scans, cache)
    given = input_measured(model, before, spacing)
    other = partial(_other, model, _volume(files[(number + 1) % len(files)]), cache, after.shape)
    outputs = {**_outputs(file, volume, after, given.body, rng), "wrong_patient": other}
    every: dict[str, Callable[[], Hu]] = {CLEAN: lambda: after, **outputs}
    for kind, output in every.items():
        yield _case(kind, file.stem, given, before, output(), spacing)
    for kind, (wrong, made, its_spacing) in _inputs(model, volume, before, rng, cache, number):
        yield _case(kind, file.stem, input_measured(model, wrong, its_spacing), wrong, made, its_spacing)


def _case(kind: str, patient: str, given: InputMeasured, before: Hu, after: Hu, spacing: Spacing) -> Case:
    # Not what the writer meant: HU are written as whole numbers.
    written = np.asarray(np.round(after), np.float32)
    return Case(kind, patient, dict(given.measures), output_changes(given, before, written, spacing))


def converted(
    model: EnhancementModel, volume: TrainingVolume, scans: Scans, cache: Path, seed: int = _SEED
) -> tuple[Hu, Hu]:  # fmt: skip
    """The simulated MVCT of a patient and what the network makes of it; both kept."""
    path = kept_pair(volume, scans, seed, cache)
    before, kept = read_pair(path).sparse_hu_zyx, _of_cards(cache) / f"{path.stem}.npy"
    if not kept.exists():
        # Named when it is whole: another process may look for the same.
        partial_file = kept.with_suffix(f".{os.getpid()}")
        with partial_file.open("wb") as file:
            np.save(file, enhanced(model, before, volume.spacing_zyx_mm))
        partial_file.replace(kept)
    return before, np.load(kept)


def _of_cards(cache: Path) -> Path:
    """Folder of what depends on the shipped weights, their domain and their witness."""
    card = load_card(WEIGHTS)
    digest = hashlib.sha256(f"{card.sha256} {card.domain_sha256} {card.witness_sha256}".encode()).hexdigest()
    folder = cache / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _other(model: EnhancementModel, other: TrainingVolume, cache: Path, shape: tuple[int, ...]) -> Hu:
    return planting.fitted(converted(model, other, CLINICAL_SCANS["mvct"], cache)[1], shape)


def _outputs(
    file: Path, volume: TrainingVolume, after: Hu, body: Mask, rng: np.random.Generator
) -> dict[str, "partial[Hu]"]:
    spacing = volume.spacing_zyx_mm
    shifts = {
        f"shift_{mm}mm": partial(planting.shifted, after, spacing, tuple(planting.direction(rng) * mm))
        for mm in (1, 2, 3)
    }
    erased = {}
    if file.parent.name == "openkbp":
        masks = read_organ_volume(file, HEAD_AND_NECK_ORGANS).masks()
        for kind, organs in planting.ERASABLE.items():
            if (organ := planting.organ_to_erase(masks, organs, body, rng)) is not None:
                erased[kind] = partial(planting.erased, after, organ, spacing, rng)
    return {
        **shifts,
        "bent_3mm": partial(planting.bent, after, spacing, 3.0, rng),
        **erased,
        "blob_5mm": partial(planting.with_blob, after, spacing, 5.0, planting.FIRM_BLOB_HU, rng),
        "blob_10mm": partial(planting.with_blob, after, spacing, 10.0, planting.FIRM_BLOB_HU, rng),
        "blob_10mm_soft": partial(planting.with_blob, after, spacing, 10.0, planting.SOFT_BLOB_HU, rng),
        "smoothed": partial(planting.smoothed_away, after, spacing),
        "attenuation_5": partial(planting.wrong_attenuation, after),
        "hu_5": partial(planting.wrong_hu_scale, after),
        "flipped": partial(planting.turned_over, after),
        "reordered": partial(planting.reordered, after, rng),
        "exchanged": partial(planting.exchanged, after, rng),
    }


def _inputs(
    model: EnhancementModel, volume: TrainingVolume, before: Hu, rng: np.random.Generator, cache: Path, number: int
) -> Iterator[tuple[str, tuple[Hu, Hu, Spacing]]]:
    """Kind, and input, output and spacing of failures that begin before the network."""
    spacing, scans = volume.spacing_zyx_mm, CLINICAL_SCANS["mvct"]
    yield "weights", (before, enhanced(corrupted(number), before, spacing), spacing)
    low, high = scans.noise_sd_hu
    noisy = converted(model, volume, replace(scans, noise_sd_hu=(4.0 * low, 4.0 * high)), cache)
    yield "noise_4", (*noisy, spacing)
    with_metal = replace(volume, hu_zyx=planting.with_metal(volume.hu_zyx, spacing, rng))
    yield "metal", (*converted(model, with_metal, scans, cache), spacing)
    cut = planting.truncated(before)
    yield "truncated", (cut, enhanced(model, cut, spacing), spacing)
    chest = planting.coarsened(read_volume(DATA / "real_ct_npz_256" / "lidc_0314_chest.npz"), number)
    yield "chest", (*converted(model, chest, scans, cache), chest.spacing_zyx_mm)


def corrupted(seed: int) -> EnhancementModel:
    """The shipped network with a part of its weights drawn anew."""
    card, tensors = corrupted_weights(seed)
    whole = Generator.of(Architecture(**card.architecture))
    whole.load_state_dict(tensors)
    conversion = Conversion(whole).eval().requires_grad_(False)
    return replace(load_generator(WEIGHTS), generator=conversion, engine=made_engine(REFERENCE, conversion))


def corrupted_weights(seed: int) -> tuple[Card, dict[str, Tensor]]:
    """The card as it is, and tensors with a part of their numbers drawn anew, each with its own mean and SD."""
    card, tensors = load_weights(WEIGHTS)
    rng = np.random.default_rng([_SEED, seed])
    for tensor in tensors.values():
        values = tensor.numpy()
        hit = rng.random(values.shape) < _RANDOM_PART
        values[hit] = rng.normal(values.mean(), values.std(), int(hit.sum())).astype(values.dtype)
    return card, tensors


def is_refused(seed: int, folder: Path) -> bool:
    """Whether such weights, in the place of the shipped ones, are not used."""
    card, tensors = corrupted_weights(seed)
    path = folder / f"{WEIGHTS}.safetensors"
    path.write_bytes(save(tensors))
    write_card(path.with_suffix(".md"), card.model_copy(update={"domain_sha256": None, "witness_sha256": None}))
    try:
        load_generator(str(path))
    except WeightsError:
        return True
    return False


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("runs/planted"))
    parser.add_argument("--card", default=WEIGHTS, help="weights whose card has the limits")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    files = patients(options.patients)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(measured, files=files, cache=options.cache), range(len(files))))
    card = load_weights(options.card)[0]
    only = options.card != WEIGHTS
    cases = [
        judge(case.kind, {**case.given, **against_usual(case.changes, card.usual)}, card.limits, only)
        for several in found
        for case in several
    ]
    sys.stdout.write(table(cases, KINDS, GROSS))
    with TemporaryDirectory() as folder:
        refused = [is_refused(number, Path(folder)) for number in range(len(files))]
    sys.stdout.write(f"Broken weights, used as they are: {sum(refused)} of {len(refused)} refused by their SHA-256.\n")


if __name__ == "__main__":
    main()
