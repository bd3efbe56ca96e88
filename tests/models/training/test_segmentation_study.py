import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.training.organ_volumes import OrganVolume
from models.training.segmentation_settings import WIDE_WINDOW_HU
from models.training.segmentation_study import (
    Variant,
    VariantResult,
    class_weights,
    studied,
    variants,
    varied,
)
from models.training.segmentation_study_report import MARKDOWN, PNG, sentence, write_report
from models.training.volumes import TrainingDataError
from tests.models.training.organ_phantoms import ORGANS, SETTINGS, patients


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[VariantResult]]:
    output = tmp_path_factory.mktemp("study")
    return output, studied(patients(), SETTINGS, output)


def test_every_window_is_trained_with_every_kind_of_weights(study: tuple[Path, list[VariantResult]]) -> None:
    _, results = study
    assert [one.variant for one in results] == variants()
    assert len(results) == 9
    assert all(one.updates == (1, 2, 3, 4) for one in results)
    assert all(0.0 <= value <= 1.0 for one in results for values in one.dice.values() for value in values)


def test_variants_differ_in_what_they_learn(study: tuple[Path, list[VariantResult]]) -> None:
    _, results = study
    assert len({tuple(one.dice.items()) for one in results}) > 1


def test_a_study_that_is_run_again_trains_nothing(study: tuple[Path, list[VariantResult]]) -> None:
    output, results = study
    before = {path: path.stat().st_mtime_ns for path in (output / "cells").rglob("*")}
    assert studied(patients(), SETTINGS, output) == results
    assert {path: path.stat().st_mtime_ns for path in (output / "cells").rglob("*")} == before


def test_other_settings_are_another_study(study: tuple[Path, list[VariantResult]]) -> None:
    output, _ = study
    folders = set((output / "cells").iterdir())
    studied(patients(), replace(SETTINGS, updates=1, checkpoint_every=1), output)
    assert len(set((output / "cells").iterdir()) - folders) == 1


def test_weights_follow_the_volumes_of_the_organs() -> None:
    training = patients()[:2]
    millilitres = [np.mean([(one.labels_zyx == 1 + n).sum() for one in training]) for n in range(len(ORGANS))]
    assert class_weights("equal", training) == (1.0,) * 5
    inverse = class_weights("by inverse volume", training)
    assert inverse[0] == 1.0
    assert np.allclose(inverse[1:], max(millilitres) / np.array(millilitres))
    published = class_weights("as published", training)
    assert sorted(published) == [1.0, 1.0, 1.0, 100.0, 1000.0]
    smallest_two = np.argsort(millilitres)[:2]
    assert {published[1 + int(organ)] for organ in smallest_two} == {100.0, 1000.0}


def test_the_window_of_the_publication_is_the_only_one_that_its_variant_sees() -> None:
    settings = varied(SETTINGS, Variant("air to soft tissue", "equal"), patients()[:2])
    assert settings.windows_hu == (WIDE_WINDOW_HU,)
    assert varied(SETTINGS, Variant("all of the settings", "equal"), patients()[:2]).windows_hu == SETTINGS.windows_hu


def test_an_organ_that_nobody_drew_has_no_weight() -> None:
    undrawn = [replace(one, labels_zyx=np.where(one.labels_zyx == 2, 0, one.labels_zyx)) for one in patients()[:2]]
    with pytest.raises(TrainingDataError, match="Mandible was drawn in no training patient"):
        class_weights("by inverse volume", undrawn)


@pytest.mark.parametrize("left_out", ["train", "validation"])
def test_a_study_needs_training_and_validation_patients(tmp_path: Path, left_out: str) -> None:
    others: list[OrganVolume] = [one for one in patients() if one.volume.split != left_out]
    with pytest.raises(TrainingDataError, match="training and validation patients"):
        studied(others, SETTINGS, tmp_path)


def made(windows: str, early: float, late: float) -> VariantResult:
    values = {organ: (early,) * 4 + (late,) for organ in ("Prostate", "Rectum")}
    return VariantResult(Variant(windows, "equal"), (10, 20, 30, 40, 50), values)


def test_the_sentence_names_the_best_at_the_end_and_the_best_before() -> None:
    slow, quick = made("soft tissue", 0.2, 0.9), made("air to soft tissue", 0.5, 0.6)
    assert sentence([slow, quick]) == (
        "Best at the end: windows soft tissue, weights equal, mean Dice 0.900; after 10 updates the best was windows "
        "air to soft tissue, weights equal (0.500; 0.600 at the end)."
    )
    assert sentence([slow, made("air to soft tissue", 0.1, 0.6)]).endswith("it was the best after 10 updates too.")


def test_the_report_has_a_row_for_each_organ_and_update(
    study: tuple[Path, list[VariantResult]], tmp_path: Path
) -> None:  # fmt: skip
    _, results = study
    answer = write_report(results, SETTINGS, tmp_path)
    with (tmp_path / "segmentation_ablation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(one.dice) * len(one.updates) for one in results)
    assert answer in (tmp_path / MARKDOWN).read_text(encoding="utf-8")
    assert (tmp_path / PNG).stat().st_size > 10_000
