"""Training, evaluation and study of a segmentation, through the pipeline: small data, few updates."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.organ_sides import mirrored_organs
from models.pelvis_noise import TissuePatch
from models.training import pelvis_volumes
from models.training.organ_volumes import PELVIS_ORGANS, OrganVolume
from models.training.segmentation_report import CSV, CSV_WITHOUT_MR, MARKDOWN, PNG
from models.training.segmentation_study_report import CSV as STUDY_CSV
from models.training.segmentation_study_report import MARKDOWN as STUDY_MARKDOWN
from models.training.segmentation_study_report import PNG as STUDY_PNG
from models.training.volumes import Split
from models.weights import load_card
from pipelines.base import DataSizeOptions, PipelineError, TrainingOptions
from pipelines.dicom.organs import organ_named
from pipelines.dicom.structure_names import standard_name
from pipelines.execution import load_pipeline
from pipelines.phantom_study import Kind, PhantomSize, write_phantom
from pipelines.segmentation import Segmentation
from pipelines.segmentation_training import segmentation_settings, volumes_for
from tests.pipelines.conftest import REPOSITORY
from tests.pipelines.organ_data_made import LEARNT, openkbp

TRAINING: Mapping[str, Any] = {
    "updates": 2,
    "batch": 1,
    "patch_zyx": [16, 16, 16],
    "spacing_zyx_mm": [10.0, 10.0, 10.0],
    "log_every": 1,
    "checkpoint_every": 2,
    "validation_batches": 2,
    "channels": 4,
    "levels": 3,
}


def pipeline(weights: Path | str, **settings: Any) -> Segmentation:
    training = {**TRAINING, **settings.pop("training", {})}
    return Segmentation(name="segment", **{"weights": str(weights), "organs": LEARNT, "training": training, **settings})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training patient in DICOM, and one of each split as OpenKBP stores them."""
    folder = tmp_path_factory.mktemp("data")
    write_phantom(Kind.HEADNECK, folder / "dicom", size=PhantomSize(matrix=48, slices=36, slice_mm=8.0, fractions=0))
    for number in (1, 201, 241):
        openkbp(folder, number)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that were trained through the pipeline."""
    output = tmp_path_factory.mktemp("trained")
    return pipeline("tiny").train(data, output, TrainingOptions())


def test_training_reads_dicom_and_files_and_names_the_weights_as_the_settings_do(trained: Path) -> None:
    assert trained.name == "tiny.safetensors"
    assert {path.suffix for path in trained.parent.glob("tiny.*")} >= {".safetensors", ".md", ".csv", ".png"}
    card = load_card(str(trained))
    assert card.segmentation is not None and card.segmentation.organs == LEARNT
    assert card.training_domain.patients == 2
    assert {"organ_doubt", "height_missing_mm", "volume_outside_part"} <= set(card.limits)
    with (trained.parent / "tiny.csv").open(newline="") as file:
        assert [row["update"] for row in csv.DictReader(file)] == ["1", "2"]


def test_what_was_trained_segments(trained: Path) -> None:
    assert len(pipeline(trained).weights_sha256()) == 1
    assert len(pipeline(trained, organs=("Parotid_R",)).settings_sha256()) == 64


def test_what_is_chosen_for_a_run_goes_before_the_settings(data: Path, tmp_path: Path) -> None:
    options = TrainingOptions(updates=1, seed=3, settings={"batch": 2, "seed": 9})
    settings = segmentation_settings(pipeline("tiny"), options)
    assert (settings.updates, settings.seed, settings.batch, settings.organs) == (1, 3, 2, LEARNT)
    path = pipeline(tmp_path / "other.safetensors").train(data, tmp_path, options)
    assert path == tmp_path / "other.safetensors"
    assert "seed 3" in load_card(str(path)).text


def test_evaluation_leaves_rows_a_page_and_a_picture_of_the_test_patients(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    done: list[float] = []
    before = load_card(str(trained))
    found = pipeline(trained).evaluate(data, tmp_path, lambda part, what: done.append(part))
    with (tmp_path / CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["patient"], row["organ"]) for row in rows] == [("pt_241", organ) for organ in LEARNT]
    assert found["patients"] == 1.0
    assert found["parotid_l_dice"] == pytest.approx(float(rows[0]["dice"]))
    assert "1 test patients" in (tmp_path / MARKDOWN).read_text()
    assert (tmp_path / PNG).stat().st_size > 10_000
    assert done == sorted(done) and done[-1] == pytest.approx(0.9525)
    assert load_card(str(trained)) == before


def test_evaluation_is_recorded_where_that_is_wanted(data: Path, tmp_path: Path) -> None:
    weights = pipeline("tiny").train(data, tmp_path, TrainingOptions(updates=1))
    assert not load_card(str(weights)).metrics
    pipeline(weights).evaluate(data, tmp_path / "out", record=True)
    assert load_card(str(weights)).metrics["patients"] == 1.0


def test_a_study_trains_all_windows_and_weights_and_answers_in_a_sentence(data: Path, tmp_path: Path) -> None:
    answer = pipeline("tiny").study_ablation(data, tmp_path, TrainingOptions(updates=1))
    assert answer.startswith("Best at the end: windows ") and answer in (tmp_path / STUDY_MARKDOWN).read_text()
    with (tmp_path / STUDY_CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["windows"], row["weights"]) for row in rows}) == 9
    assert (tmp_path / STUDY_PNG).exists()


@pytest.fixture(scope="module")
def known() -> dict[tuple[object, ...], OrganVolume]:
    """Patients that were made up already: the same number is the same patient."""
    return {}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch, known: dict[tuple[object, ...], OrganVolume]) -> None:
    """Made-up patients of few voxels, few of them, and each made once."""
    monkeypatch.setattr(pelvis_volumes, "TEST_PATIENTS", 1)
    monkeypatch.setattr(pelvis_volumes, "_VALIDATION_PATIENTS", 1)
    monkeypatch.setattr(pelvis_volumes, "_SLICE_MM", (8.0, 9.0))
    monkeypatch.setattr(pelvis_volumes, "_PIXEL_MM", (8.0, 9.0))
    original = pelvis_volumes.pelvis_volumes

    def made(count: int, number: int, split: Split, textures: Sequence[TissuePatch] = ()) -> list[OrganVolume]:
        assert count == 1
        key = (number, split, bool(textures))
        if key not in known:
            (known[key],) = original(1, number, split, textures)
        return [known[key]]

    monkeypatch.setattr(pelvis_volumes, "pelvis_volumes", made)


def made_up(weights: Path | str, count: int = 2, **settings: Any) -> Segmentation:
    return pipeline(
        weights, organs=PELVIS_ORGANS, made_up_pelves=count, training={"takes_mr": True, "updates": 1}, **settings
    )


@pytest.mark.usefixtures("coarse")
def test_made_up_pelves_are_trained_on_and_judged_with_and_without_mr(data: Path, tmp_path: Path) -> None:
    weights = made_up("pelvis").train(data, tmp_path, TrainingOptions())
    card = load_card(str(weights))
    assert not card.limits and card.training_domain.modality.startswith("made-up CT")
    assert card.segmentation is not None and card.segmentation.takes_mr
    assert card.training_domain.patients == 2
    found = made_up(weights).evaluate(data, tmp_path / "out")
    assert found["patients"] == 1.0
    assert (tmp_path / "out" / CSV_WITHOUT_MR).exists() and "CT alone" in (tmp_path / "out" / MARKDOWN).read_text()


@pytest.mark.usefixtures("coarse")
def test_of_the_data_made_up_patients_have_only_the_texture_and_none_of_the_test_patients(data: Path) -> None:
    one = made_up("pelvis", 3)
    settings = segmentation_settings(one, TrainingOptions())
    seen: list[int] = []

    def cohort(count: int, textures: list[Any], splits: Sequence[Any]) -> Any:
        seen.append(len(textures))
        return original(count, textures, splits)

    original = pelvis_volumes.pelvis_cohort
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.segmentation_training.pelvis_cohort", cohort)
        volumes = volumes_for(one, data, settings, lambda done, what: None)
    # Three of the four CT below the folder; the fourth is a test patient.
    assert seen == [3]
    assert [volume.volume.split for volume in volumes] == ["train"] * 3 + ["validation", "test"]
    assert len({volume.volume.patient_id for volume in volumes}) == 5
    assert all(volume.mr_zyx is not None and all(volume.drawn) for volume in volumes)


@pytest.mark.parametrize("what", ["train", "evaluate", "study_ablation"])
def test_more_made_up_patients_than_there_are_numbers_are_refused_in_a_sentence(
    data: Path, trained: Path, tmp_path: Path, what: str
) -> None:
    asked = pipeline(trained, made_up_pelves=501)
    with pytest.raises(PipelineError, match=r"^501 made-up patients are more than 500$"):
        if what == "evaluate":
            asked.evaluate(data, tmp_path)
        else:
            getattr(asked, what)(data, tmp_path, TrainingOptions())


@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [
        ({}, {"method": "cyclegan"}, "segment has one method of training, on whole volumes"),
        ({}, {"slices": 8}, "segment has one method of training, on whole volumes"),
        ({"organs": ()}, {}, r"segment does not say which organs it should learn \(settings: organs\)"),
        ({"training": {"learning_rat": 1.0}}, {}, "training setting learning_rat"),
        ({"training": {"augmentation": {"mirrors": 1.0}}}, {}, r"training setting augmentation\.mirrors"),
        ({}, {"settings": {"updates": "many"}}, "training setting updates"),
        ({"training": {"patch_zyx": [15, 16, 16]}}, {}, "patch"),
        ({"organs": ("Bladder",)}, {}, "has no planning CT in which Bladder was drawn"),
    ],
)
def test_what_can_not_be_trained_is_one_sentence(
    data: Path, tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PipelineError, match=reason):
        pipeline("tiny", **settings).train(data, tmp_path, TrainingOptions(**options))


def test_a_folder_without_test_or_validation_patients_is_told(trained: Path, tmp_path: Path) -> None:
    openkbp(tmp_path, 1)
    with pytest.raises(PipelineError, match="there is no test patient with organs"):
        pipeline(trained).evaluate(tmp_path, tmp_path / "out")
    with pytest.raises(PipelineError, match="the study needs training and validation patients with organs"):
        pipeline("tiny").study_ablation(tmp_path, tmp_path / "out", TrainingOptions())


def test_weights_that_are_not_there_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="nowhere"):
        pipeline(tmp_path / "nowhere.safetensors").evaluate(data, tmp_path / "out")


def test_organs_that_the_weights_do_not_know_are_told(data: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not know the organ Brainstem"):
        pipeline(trained, organs=("Parotid_L", "Brainstem")).evaluate(data, tmp_path / "out")


@pytest.mark.parametrize("name", ["segment_headneck", "segment_pelvis"])
def test_the_shipped_settings_can_be_trained_with(name: str) -> None:
    shipped = yaml.safe_load((REPOSITORY / "config" / "pipelines" / f"{name}.yaml").read_text())
    one = load_pipeline(name, shipped["class"], shipped["settings"], verify=False)
    assert isinstance(one, Segmentation)
    settings = segmentation_settings(one, TrainingOptions())
    assert settings.organs == one.organs and settings.bf16
    assert all(n % settings.architecture().stride == 0 for n in settings.patch_zyx)
    assert [standard_name(organ) for organ in one.organs] == list(one.organs)
    # Each has a code of its own, and none the general one.
    codes = {(organ_named(organ).code.value, organ_named(organ).side) for organ in one.organs}
    assert len(codes) == len(one.organs) and organ_named("Nothing").code.value not in {code for code, _ in codes}
    # Only sides that can be exchanged are looked at in the mirror.
    assert not one.mirror or None not in mirrored_organs(one.organs)


def test_a_segmentation_has_no_study_of_the_training_size(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="trained on whole volumes, so there is no number of slices to study"):
        pipeline("tiny").study_data_size(data, tmp_path, DataSizeOptions(sizes=(4,)))
