import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from models.training.settings import TrainingSettings
from models.training.study_cell import QUALITY, STRUCTURE, Cell
from models.training.study_report import StudyResult, write_report

WITHOUT_MODEL = dict.fromkeys((*QUALITY, *STRUCTURE), 90.0)


def cell(size: int, seed: int, mae_hu: Sequence[float]) -> Cell:
    values = {f"P{n}": {**dict.fromkeys((*QUALITY, *STRUCTURE), 0.5), "mae_hu": mae} for n, mae in enumerate(mae_hu)}
    return Cell(size, seed, size // 8, values)


def study(mae_by_size: Mapping[int, float], patients: int = 8, seeds: int = 2) -> StudyResult:
    """Every seed is one HU worse than the one before."""
    cells = [cell(size, seed, [mae + seed] * patients) for size, mae in mae_by_size.items() for seed in range(seeds)]
    return StudyResult(cells, WITHOUT_MODEL, TrainingSettings(updates=100))


def test_the_sentence_names_the_size_the_test_the_margin_the_patients_and_the_seeds() -> None:
    assert study({16: 70.0, 64: 61.0, 256: 59.5}).sentence() == (
        "64 slices are the smallest training set that is not worse than 256: MAE 61.5 against 60.0 HU (a one-sided "
        "paired permutation test of non-inferiority with a margin of 5 % of the MAE (3 HU), Holm-corrected over 2 "
        "sizes, from the largest down, at a level of 0.05; 8 validation patients, mean of 2 seeds)."
    )


def test_where_all_smaller_sizes_are_worse_the_sentence_says_so() -> None:
    assert (
        study({16: 70.0, 64: 59.5}).sentence().startswith("No size below 64 slices was shown to be not worse than 64 (")
    )


def test_with_too_few_patients_the_sentence_says_that_it_can_not_tell() -> None:
    sentence = study({16: 59.5, 64: 59.5}, patients=4).sentence()
    assert sentence.startswith("Whether fewer than 64 slices suffice can not be told from 4 validation patients: ")
    assert sentence.endswith("at a level of 0.05 needs 5.")


@pytest.mark.parametrize(("mae", "words"), [(86.5, "3 HU below that of the input"), (94.5, "5 HU above that of the")])
def test_trainings_that_gain_less_than_the_margin_say_nothing_about_the_size(mae: float, words: str) -> None:
    sentence = study({16: mae, 64: mae}).sentence()
    assert sentence.startswith("Nothing can be said about the size: with 64 slices and 100 updates the MAE is")
    assert words in sentence


def test_one_size_has_nothing_to_be_compared_with() -> None:
    assert "nothing to compare" in study({16: 60.0}).sentence()


def test_spread_is_the_sample_sd_over_the_seeds() -> None:
    assert study({16: 60.0}).over_seeds(16, "mae_hu") == pytest.approx((60.5, 0.5**0.5))
    assert study({16: 60.0}, seeds=1).over_seeds(16, "mae_hu") == (60.0, 0.0)


def test_patients_are_paired_whatever_their_order() -> None:
    # In one order the differences are all 0; in another they would be far apart.
    rising = [50.0 + n for n in range(8)]
    small = cell(16, 0, rising)
    shuffled = Cell(16, 0, 2, dict(reversed(list(small.values.items()))))
    assert StudyResult([shuffled, cell(64, 0, rising)], WITHOUT_MODEL, TrainingSettings()).verdict.smallest == 16


def test_the_report_is_a_row_for_each_training_a_table_and_a_figure(tmp_path: Path) -> None:
    write_report(study({16: 70.0, 64: 59.5}), tmp_path)
    with (tmp_path / "data_size.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["slices"], row["seed"], row["mae_hu"]) for row in rows] == [
        ("16", "0", "70"),
        ("16", "1", "71"),
        ("64", "0", "59.5"),
        ("64", "1", "60.5"),
    ]
    text = (tmp_path / "data_size.md").read_text(encoding="utf-8")
    assert "| 16 | 2 | 70.5 (0.71) |" in text and "| +10.5 | 1 | not shown |" in text and "| no model |" in text
    assert "(data_size.png)" in text and (tmp_path / "data_size.png").read_bytes().startswith(b"\x89PNG")
