"""The report of an evaluation: statistics against a library and against what a hand calculates."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from models.organ_finder import load_organ_finder
from models.segmentation_measures import OrganMeasures
from models.training.organ_volumes import OrganVolume
from models.training.segmentation_evaluation import JudgedCase
from models.training.segmentation_report import (
    CSV,
    CSV_WITHOUT_MR,
    MARKDOWN,
    PNG,
    evaluate,
    figures,
    holm,
    paired_table,
    signed_rank_p,
)
from models.training.volumes import TrainingDataError
from models.weights import load_card
from tests.models.segmenters import TASK, saved_segmenter
from tests.models.training.organ_phantoms import ORGANS, SPACING, patient

ONLY = TASK.model_copy(update={"organs": ORGANS, "spacing_zyx_mm": SPACING})


def case(name: str, true_ml: float = 10.0, **dice: float) -> JudgedCase:
    """Of each organ only its Dice matters."""
    measures = {
        organ: OrganMeasures(
            dice=value,
            surface_dice=value / 2.0,
            hd95_mm=3.0 if value else float("inf"),
            mean_surface_distance_mm=1.0,
            volume_error_percent=0.0,
            predicted_ml=10.0 if value else 0.0,
            true_ml=true_ml,
        )
        for organ, value in dice.items()
    }
    return JudgedCase(name, measures, {}, np.zeros((1, 1, 1), np.uint8))


def cases(**dice: Sequence[float]) -> list[JudgedCase]:
    count = len(next(iter(dice.values())))
    return [case(f"P{n}", **{organ: values[n] for organ, values in dice.items()}) for n in range(count)]


def exact_p(differences: Sequence[float]) -> float:
    """Over all signs that the ranks might have had; for differences that all differ in size and from 0."""
    ranks = stats.rankdata(np.abs(differences))
    seen = abs(float((np.sign(differences) * ranks).sum()))
    sums = [abs(float(np.dot(signs, ranks))) for signs in product((-1.0, 1.0), repeat=len(ranks))]
    return float(np.mean([one >= seen - 1e-9 for one in sums]))


@pytest.mark.parametrize(
    "differences",
    [
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        (-0.1, 0.2, 0.3, 0.4, -0.5, 0.6, 0.7, 0.8),
        (0.11, -0.12, 0.13, -0.14, 0.15, -0.16, 0.17),
    ],
)
def test_the_p_of_the_signed_rank_test_is_that_of_all_signs_and_of_the_library(differences: tuple[float, ...]) -> None:
    p = signed_rank_p(np.array(differences))
    assert p == pytest.approx(exact_p(differences))
    assert p == pytest.approx(stats.wilcoxon(differences, alternative="two-sided").pvalue)
    assert signed_rank_p(-np.array(differences)) == pytest.approx(p)


def test_six_patients_who_all_gain_are_the_fewest_that_tell_anything() -> None:
    assert signed_rank_p(np.arange(1.0, 7.0)) == pytest.approx(2 / 2**6)
    assert signed_rank_p(np.arange(1.0, 6.0)) == 1.0
    assert signed_rank_p(np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])) == 1.0
    assert signed_rank_p(np.zeros(20)) == 1.0


def test_p_values_are_adjusted_after_holm() -> None:
    # Smallest times 4, next times 3, then never less than the one before; none above 1.
    adjusted = holm({"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.5})
    assert adjusted == pytest.approx({"b": 0.04, "a": 0.09, "c": 0.09, "d": 0.5})
    assert holm({"a": 0.6, "b": 0.7}) == pytest.approx({"a": 1.0, "b": 1.0})
    assert holm({"a": 0.02}) == {"a": 0.02} and holm({}) == {}


def test_patients_are_compared_with_themselves() -> None:
    gains = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07)
    with_mr = cases(Bladder=[0.8 + gain for gain in gains], Rectum=[0.7] * 7)
    alone = cases(Bladder=[0.8] * 7, Rectum=[0.7] * 7)
    rows = paired_table(with_mr, alone, ("Bladder", "Rectum")).splitlines()
    assert rows[0] == "| organ | with MR | CT alone | median difference | p |"
    # Seven gains of seven: 2 of 2^7, times the two tests.
    assert rows[2] == "| Bladder | 0.840 | 0.800 | +0.040 | 0.031 |"
    assert rows[3] == "| Rectum | 0.700 | 0.700 | +0.000 | 1 |"


def test_an_organ_that_nobody_drew_makes_no_test_and_one_drawn_empty_no_pair() -> None:
    gains = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07)
    with_mr, alone = cases(Bladder=[0.8 + gain for gain in gains]), cases(Bladder=[0.8] * 7)
    empty = case("P7", 0.0, Bladder=float("nan"))
    rows = paired_table([*with_mr, empty], [*alone, empty], ("Bladder", "Larynx")).splitlines()
    assert rows[2:] == ["| Bladder | 0.840 | 0.800 | +0.040 | 0.016 |"]


def test_figures_are_means_over_the_patients_that_have_the_organ() -> None:
    seen = [case("P1", Bladder=0.8, Rectum=0.5), case("P2", Bladder=0.6), case("P3", 0.0, Rectum=float("nan"))]
    found = figures(seen, ("Bladder", "Rectum", "Larynx"))
    assert found["bladder_dice"] == pytest.approx(0.7) and found["bladder_surface_dice_2mm"] == pytest.approx(0.35)
    assert found["rectum_dice"] == 0.5 and found["patients"] == 3.0
    assert found["mean_dice"] == pytest.approx(0.6)
    assert not [name for name in found if name.startswith("larynx")]


def test_the_distance_of_a_missed_organ_is_in_no_mean() -> None:
    found = figures([case("P1", Bladder=0.0), case("P2", Bladder=0.8)], ("Bladder",))
    assert found["bladder_hd95_mm"] == 3.0 and found["bladder_dice"] == pytest.approx(0.4)
    assert np.isnan(figures([case("P1", Bladder=0.0)], ("Bladder",))["bladder_hd95_mm"])


def volumes(has_mr: bool = False) -> list[OrganVolume]:
    return [patient(1, "train"), *(patient(number, "test", has_mr) for number in (4, 5))]


def test_an_evaluation_leaves_rows_a_page_and_a_picture(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, ONLY)
    before = load_card(weights)
    found = evaluate(weights, volumes(), tmp_path / "out")
    rows = (tmp_path / "out" / CSV).read_text().splitlines()
    assert len(rows) == 1 + 2 * len(ORGANS) and rows[0].startswith("patient,organ,dice")
    assert {row.split(",")[0] for row in rows[1:]} == {"phantom_4", "phantom_5"}
    dice = [float(row.split(",")[2]) for row in rows[1:] if row.split(",")[1] == "Brain"]
    assert found["brain_dice"] == pytest.approx(np.mean(dice))
    page = (tmp_path / "out" / MARKDOWN).read_text()
    assert page.startswith("# organs\n\n2 test patients, never trained on") and f"]({PNG})" in page
    assert "CT alone" not in page and "with its MR" not in page and "mirrored" not in page
    assert (tmp_path / "out" / PNG).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out" / CSV_WITHOUT_MR).exists()
    assert load_card(weights) == before


def test_an_evaluation_that_is_recorded_is_in_the_card(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, ONLY)
    found = evaluate(weights, volumes(), tmp_path / "out", record=True)
    card = load_card(weights)
    assert card.metrics["mean_dice"] == pytest.approx(found["mean_dice"], abs=1e-3)
    assert "2 test patients, never trained on" in card.text
    load_organ_finder(weights)


def test_with_mr_the_ct_alone_is_measured_beside(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, ONLY.model_copy(update={"takes_mr": True}))
    evaluate(weights, volumes(has_mr=True), tmp_path / "out", mirror=False)
    assert (tmp_path / "out" / CSV).read_text() != (tmp_path / "out" / CSV_WITHOUT_MR).read_text()
    page = (tmp_path / "out" / MARKDOWN).read_text()
    assert "2 test patients, never trained on, each on the grid of its own CT with its MR" in page
    assert "CT alone, the same patients:" in page and "| Brain |" in page.split("Wilcoxon")[1]


def test_where_one_patient_has_no_mr_nothing_is_compared(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, ONLY.model_copy(update={"takes_mr": True}))
    mixed = [patient(4, "test", has_mr=True), patient(5, "test")]
    evaluate(weights, mixed, tmp_path / "out")
    assert not (tmp_path / "out" / CSV_WITHOUT_MR).exists()


def test_without_test_patients_there_is_nothing_to_say(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, ONLY)
    with pytest.raises(TrainingDataError, match="there is no test patient with organs"):
        evaluate(weights, [patient(1, "train"), patient(3, "validation")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_patients_of_whom_nothing_was_drawn_or_found_are_shown_too(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, ONLY)
    bare = replace(patient(4, "test"), labels_zyx=np.zeros_like(patient(4, "test").labels_zyx))
    evaluate(weights, [bare], tmp_path / "out")
    assert (tmp_path / "out" / PNG).read_bytes().startswith(b"\x89PNG")
