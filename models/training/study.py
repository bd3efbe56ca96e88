"""How many slices does the training need? One training for every size and seed, all with the same number of updates.

Sizes are nested and come from one pool (`models.training.subsets`), so the size is all that differs. The seed of a
cell decides the order of the patients as well as the training: the spread over seeds tells what both do. Models are
judged on the validation patients; the test patients stay unseen. MVCT or CBCT is simulated from planning CT
throughout; where the data hold real ones as well, these are left out, as they have no truth.
"""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from models.inference import nobody
from models.training.kept_pairs import kept_pairs, volume_sha256
from models.training.pairs import CLINICAL_SCANS
from models.training.progress import CountedProgress, Progress, part
from models.training.settings import TrainingSettings
from models.training.study_cell import (
    CellOrder,
    JudgedImage,
    read_cell,
    run_cell,
    run_cell_on_one_thread,
    values_without_model,
)
from models.training.study_data import SliceOf, seen_by_patient, slices_by_patient
from models.training.study_report import StudyResult, write_report
from models.training.subsets import check_sizes, nested_slices
from models.training.volumes import TrainingDataError, TrainingVolume, of_split

Size: TypeAlias = int | Literal["all"]
"""Number of training slices; `all` that the training patients have."""

_SIMULATION_SEED, _VALIDATION_SEED, _OTHER_NOISE_SEED = 0, 40_000, 40_001
"""The same simulated images for every cell; the validation noise is its own."""
_SIMULATION_SHARE = 0.1
"""Part of the progress bar that the simulation of the data takes."""


class StudyBroken(Exception):
    """The study stopped although its data are right; the message is one plain sentence."""


@dataclass(frozen=True)
class StudySettings:
    """Everything that a person decides about a study."""

    sizes: tuple[Size, ...]
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Of every cell, seed and number of slices aside."""
    seeds: int = 3
    """Trainings of every size."""
    validation_slices: int = 24
    """Of each validation volume, at most so many neighbouring slices are judged."""
    jobs: int = 1
    """Cells that run at the same time; more than one runs in processes of one thread each."""


def study_data_size(
    volumes: Sequence[TrainingVolume], settings: StudySettings, output: Path, progress: Progress = nobody
) -> StudyResult:
    """Run the cells that are not there yet, and write data_size.csv, data_size.md and data_size.png into `output`.

    Cells are kept in `output/cells`, under a digest of settings and data: a study that was interrupted goes on, and one
    with more sizes or seeds uses what is there. The folder `output/simulated` may be deleted when the study is done.

    Raises
    ------
    TrainingDataError
        If a size is larger than the pool, there are fewer than two training patients or no validation patient, or
        a training image is smaller than the crop. This is found before anything is simulated or trained, unless the
        pool is smaller because the simulated scanner did not see some slices.
    StudyBroken
        If a worker process died.
    models.cone_beam.ConeBeamUnavailable
        If CBCT have to be simulated and the library for it is not installed.
    """
    planning = [volume for volume in volumes if volume.domain == "planning_ct"]
    training = of_split(planning, "train")
    validation = [volume for volume in of_split(planning, "validation") if any(seen_by_patient([volume]).values())]
    _check(settings, training, validation)
    pairs, judged = _simulated(
        training, validation, settings, output / "simulated", part(progress, 0.0, _SIMULATION_SHARE)
    )
    pool = slices_by_patient(pairs)
    sizes = _sizes(settings.sizes, pool)
    chosen = {seed: nested_slices(pool, sizes, seed) for seed in range(settings.seeds)}
    folder = output / "cells" / _digest(settings, training, validation)[:12]
    orders = [
        _order(settings, size, seed, subsets[size], judged, folder)
        for size in sizes
        for seed, subsets in chosen.items()
    ]
    _run(orders, settings.jobs, progress)
    cells = tuple(read_cell(order.result) for order in orders)
    result = StudyResult(cells, values_without_model(judged), settings.training)
    write_report(result, output)
    return result


def _check(
    settings: StudySettings, training: Sequence[TrainingVolume], validation: Sequence[TrainingVolume]
) -> None:  # fmt: skip
    if not settings.sizes:
        raise TrainingDataError("a study needs at least one size")
    pool = seen_by_patient(training)
    check_sizes(pool, _sizes(settings.sizes, pool))
    if not validation:
        raise TrainingDataError("there is no validation patient, on whom the trained models could be judged")
    crop = settings.training.crop_pixels
    if min(min(volume.hu_zyx.shape[1:]) for volume in training) < crop:
        raise TrainingDataError(f"a slice is smaller than the crop of {crop} pixels")


def _sizes(sizes: Sequence[Size], pool: Mapping[str, Sequence[Any]]) -> list[int]:
    """The sizes as numbers, each once, rising."""
    everything = sum(len(slices) for slices in pool.values())
    return sorted({everything if size == "all" else size for size in sizes})


def _simulated(
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    settings: StudySettings,
    folder: Path,
    progress: Progress,
) -> tuple[list[Path], list[JudgedImage]]:
    """Simulate what no file holds yet: each training volume once, each validation volume twice."""
    count = CountedProgress(len(training) + 2 * len(validation), "simulating", progress)
    scans = settings.training.scans
    pairs = kept_pairs(training, scans, _SIMULATION_SEED, folder, count)
    before, again = (
        kept_pairs(validation, CLINICAL_SCANS[scans.modality], _VALIDATION_SEED, folder, count, noise_seed)
        for noise_seed in (None, _OTHER_NOISE_SEED)
    )
    return pairs, [JudgedImage(*both, settings.validation_slices) for both in zip(before, again, strict=True)]


def _order(
    settings: StudySettings,
    size: int,
    seed: int,
    slices: Sequence[SliceOf],
    judged: Sequence[JudgedImage],
    folder: Path,
) -> CellOrder:
    by_pair: dict[Path, list[int]] = {}
    for item in sorted(slices):
        by_pair.setdefault(item.pair, []).append(item.index)
    return CellOrder(
        size=size,
        settings=replace(settings.training, seed=seed, slices=None),
        training=by_pair,
        patients=len({item.patient for item in slices}),
        validation=judged,
        result=folder / f"{size:06}_{seed:03}.json",
    )


def _run(orders: Sequence[CellOrder], jobs: int, progress: Progress) -> None:
    """All cells without a result."""
    left = [order for order in orders if not order.finished]
    pace = _Pace(len(orders), len(left), progress)
    if jobs > 1 and len(left) > 1:
        _run_in_processes(left, jobs, pace)
        return
    for number, order in enumerate(left):
        run_cell(order, lambda done, what, n=number, o=order: pace(n + done, f"{_words(o)}, {what}"))  # type: ignore[misc]


def _run_in_processes(orders: Sequence[CellOrder], jobs: int, pace: "_Pace") -> None:
    # A process forked off a program with threads may hang; a spawned one gets paths and settings only.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            futures = {pool.submit(run_cell_on_one_thread, order): order for order in orders}
            for number, future in enumerate(as_completed(futures), start=1):
                future.result()
                pace(number, f"{_words(futures[future])} done")
        except BrokenProcessPool as error:
            raise StudyBroken(
                "a process of the study died, perhaps for lack of memory; start the study again, with fewer jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _words(order: CellOrder) -> str:
    return f"{order.size} slices, seed {order.settings.seed}"


def _digest(settings: StudySettings, training: Sequence[TrainingVolume], validation: Sequence[TrainingVolume]) -> str:
    """What decides a cell, its size and seed aside."""
    shared = replace(settings.training, seed=0, slices=None)
    volumes = [[volume_sha256(volume) for volume in part] for part in (training, validation)]
    identity = [asdict(shared), settings.validation_slices, volumes]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class _Pace:
    """Progress of the cells, with the time left as the cells of this run went; all cells take about as long."""

    def __init__(self, total: int, left: int, progress: Progress) -> None:
        self._total = total
        self._left = left
        self._progress = progress
        self._start_s = time.monotonic()

    def __call__(self, done: float, what: str) -> None:
        """`done` counts the cells of this run."""
        part = (self._total - self._left + done) / self._total
        left_s = (time.monotonic() - self._start_s) / max(done, 1e-6) * (self._left - done)
        shown = _SIMULATION_SHARE + (1.0 - _SIMULATION_SHARE) * part
        self._progress(shown, f"{what}; {in_words(left_s)} left")


def in_words(seconds: float) -> str:
    """A time as a person would say it; rounded up to minutes."""
    minutes = int(-(-seconds // 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
