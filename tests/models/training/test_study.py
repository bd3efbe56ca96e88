import json
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.phantoms import head_and_neck_phantom
from models.training.kept_pairs import kept_pair
from models.training.pairs import Scans, simulated_pair
from models.training.settings import TrainingSettings
from models.training.study import StudyBroken, StudySettings, in_words, study_data_size
from models.training.study_cell import QUALITY, STRUCTURE
from models.training.study_data import middle_slices, seen_by_patient, slices_by_patient
from models.training.volumes import TrainingDataError, TrainingVolume
from tests.models.training.test_enhancement import SETTINGS, SPACING, Interrupted, patient, patients
from tests.waiting import wait_until

STUDY = StudySettings(sizes=(2, 8), training=replace(SETTINGS, updates=2), seeds=2, validation_slices=3)


def stop_after(share: float) -> Callable[[float, str], None]:
    def progress(done: float, what: str) -> None:
        if done > share:
            raise Interrupted

    return progress


def cells(output: Path) -> dict[str, int]:
    """Finished cells and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob("cells/*/*.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a study that ran without a break."""
    output = tmp_path_factory.mktemp("study")
    study_data_size(patients(), STUDY, output)
    return output


def test_every_size_is_trained_with_every_seed(finished: Path) -> None:
    assert sorted(cells(finished)) == ["000002_000.json", "000002_001.json", "000008_000.json", "000008_001.json"]
    assert len((finished / "data_size.csv").read_text().splitlines()) == 1 + 4


def test_cells_leave_no_weights_behind(finished: Path) -> None:
    assert not list(finished.rglob("*.safetensors")) and not list(finished.rglob("*.partial"))


def test_only_validation_patients_judge(finished: Path) -> None:
    (cell, *_) = (json.loads(path.read_text()) for path in finished.glob("cells/*/*.json"))
    assert list(cell["values"]) == ["phantom_3"]
    assert set(cell["values"]["phantom_3"]) == {*QUALITY, *STRUCTURE}


def test_an_interrupted_study_goes_on_and_gives_the_same(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        study_data_size(patients(), STUDY, tmp_path, stop_after(0.7))
    before = cells(tmp_path)
    assert 0 < len(before) < 4 and not (tmp_path / "data_size.csv").exists()
    study_data_size(patients(), STUDY, tmp_path)
    assert before.items() <= cells(tmp_path).items()
    assert (tmp_path / "data_size.csv").read_text() == (finished / "data_size.csv").read_text()


def test_a_cell_does_not_depend_on_the_other_sizes(finished: Path, tmp_path: Path) -> None:
    study_data_size(patients(), replace(STUDY, sizes=(8,), seeds=1), tmp_path)
    (alone,) = tmp_path.glob("cells/*/*.json")
    assert alone.read_text() == (finished / alone.relative_to(tmp_path)).read_text()


def test_other_settings_or_data_use_no_cell_of_these(tmp_path: Path) -> None:
    small = replace(STUDY, sizes=(2,), seeds=1)
    for settings, volumes in [
        (small, patients()),
        (replace(small, training=replace(STUDY.training, updates=1)), patients()),
        (replace(small, validation_slices=2), patients()),
        (small, [*patients(), patient(5, "train")]),
    ]:
        study_data_size(volumes, settings, tmp_path)
    assert len(list(tmp_path.glob("cells/*"))) == 4


def test_a_supervised_network_of_several_slices_is_studied_the_same_way(tmp_path: Path) -> None:
    tiny = replace(SETTINGS.architecture, slices=3)
    training = TrainingSettings.of_method("supervised", updates=2, batch=2, crop_pixels=32, architecture=tiny)
    result = study_data_size(patients(), replace(STUDY, training=training, seeds=1), tmp_path)
    assert [cell.size for cell in result.cells] == [2, 8]
    assert "Every training was supervised" in (tmp_path / "data_size.md").read_text()


def test_real_images_of_the_data_are_left_out(finished: Path, tmp_path: Path) -> None:
    real = replace(patient(6, "train"), domain="mvct")
    study_data_size([real, *patients()], STUDY, tmp_path)
    assert (tmp_path / "data_size.csv").read_text() == (finished / "data_size.csv").read_text()


def test_all_names_the_pool(tmp_path: Path) -> None:
    result = study_data_size(patients(), replace(STUDY, sizes=("all",), seeds=1), tmp_path)
    assert result.sizes == [sum(len(slices) for slices in seen_by_patient(patients()[:2]).values())]
    assert "nothing to compare" in result.sentence()


def test_processes_give_what_one_process_gives(finished: Path, tmp_path: Path) -> None:
    study_data_size(patients(), replace(STUDY, jobs=2), tmp_path)
    rows, expected = (
        np.loadtxt(folder / "data_size.csv", delimiter=",", skiprows=1) for folder in (tmp_path, finished)
    )
    # The number of threads changes the order of sums.
    assert rows == pytest.approx(expected, rel=1e-2)


def kill_a_worker() -> None:
    wait_until(multiprocessing.active_children, what="a worker process")
    multiprocessing.active_children()[0].kill()


def test_a_worker_that_dies_is_told_in_a_sentence_and_the_study_goes_on(finished: Path, tmp_path: Path) -> None:
    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    with pytest.raises(StudyBroken, match="with fewer jobs"):
        study_data_size(patients(), replace(STUDY, jobs=2), tmp_path)
    killer.join()
    study_data_size(patients(), STUDY, tmp_path)
    assert cells(tmp_path).keys() == cells(finished).keys()


@pytest.mark.parametrize(
    ("volumes", "settings", "reason"),
    [
        (patients(), replace(STUDY, sizes=(2, 500)), "500 slices were asked for, but the 2 training patients have"),
        (patients(), replace(STUDY, sizes=(1,)), "can not come from two patients"),
        (patients(), replace(STUDY, sizes=()), "at least one size"),
        (patients()[:2], STUDY, "no validation patient"),
        (patients()[1:], STUDY, "at least two patients"),
        (patients(), replace(STUDY, training=replace(SETTINGS, crop_pixels=80)), "smaller than the crop"),
    ],
)
def test_what_can_not_be_studied_is_refused_before_any_work(
    tmp_path: Path, volumes: Sequence[TrainingVolume], settings: StudySettings, reason: str
) -> None:
    with pytest.raises(TrainingDataError, match=reason):
        study_data_size(volumes, settings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_progress_rises_and_tells_the_time_left(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    study_data_size(patients(), replace(STUDY, sizes=(2,)), tmp_path, lambda done, what: told.append((done, what)))
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] == pytest.approx(1.0)
    assert told[-1][1] == "2 slices, seed 1, judging; 0 min left"


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 min"), (61, "2 min"), (7199, "2 h 0 min"), (9000, "2 h 30 min")])
def test_a_time_is_said_in_minutes_and_hours(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def head(shown: Sequence[bool]) -> TrainingVolume:
    """Slices that show the same plane of a head, or nothing but air."""
    plane = head_and_neck_phantom((6, 64, 64), SPACING, np.random.default_rng(0)).hu_zyx[3]
    hu_zyx = np.stack([plane if show else np.full_like(plane, -1000.0) for show in shown])
    return TrainingVolume("head", "train", hu_zyx, SPACING)


def test_slices_without_a_body_are_no_part_of_the_pool(tmp_path: Path) -> None:
    volumes = [head([False, True, True, False]), head([True, False])]
    pairs = [kept_pair(volume, Scans(), 0, tmp_path) for volume in volumes]
    found = [(item.pair, item.index) for item in slices_by_patient(pairs)["head"]]
    assert found == [(pairs[0], 1), (pairs[0], 2), (pairs[1], 0)]
    assert seen_by_patient(volumes) == {"head": [1, 2, 0]}


def test_judged_slices_are_neighbours_in_the_middle_of_the_body() -> None:
    marked = head([False, True, True, True, True, False, False])
    marked.hu_zyx[:, 0, 0] = np.arange(7)
    pair = simulated_pair(marked, Scans(), 0)
    assert middle_slices(pair, 2).volume.hu_zyx[:, 0, 0].tolist() == [2, 3]
    whole = middle_slices(pair, 99)
    assert whole.volume.hu_zyx[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert (whole.sparse_hu_zyx == pair.sparse_hu_zyx[1:5]).all() and whole.body.shape == whole.sparse_hu_zyx.shape
