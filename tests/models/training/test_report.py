from pathlib import Path

import numpy as np
import pytest

from models.training.report import Example, Measures, Report, draw_page, figure_name, title, write_html
from models.weights import Card
from tests.models.test_weights import FACTS

CARD = Card.model_validate({**FACTS, "name": "tiny <b>", "sha256": "0" * 64, "text": ""})


def row(mae: float, model: float, filtered: float) -> Measures:
    return {
        ("mae", "before", "hu"): mae,
        ("ssim", "before", ""): 0.8,
        ("mae", "bilateral", "hu"): filtered,
        ("ssim", "bilateral", ""): 0.9,
        ("mae", "after", "hu"): model,
        ("ssim", "after", ""): 0.95,
        ("seconds_per_slice", "", ""): 0.1,
    }


def report(*rows: Measures) -> Report:
    return Report(CARD, "MVCT", [f"P{number}" for number in range(len(rows))], rows, {"bilateral": "4 mm, 80 HU"})


def test_names_have_measure_who_and_unit() -> None:
    assert figure_name("mae", "before", "hu") == "mae_before_hu"
    assert figure_name("ssim", "after", "") == "ssim_after"
    assert figure_name("seconds_per_slice", "", "") == "seconds_per_slice"


def test_figures_are_mean_and_sample_sd() -> None:
    figures = report(row(100.0, 60.0, 70.0), row(90.0, 50.0, 64.0)).figures()
    assert figures["mae_before_hu"] == 95.0
    assert figures["mae_before_hu_sd"] == pytest.approx(50.0**0.5)
    assert figures["mae_bilateral_hu"] == 67.0


def test_a_measure_that_a_patient_does_not_allow_is_the_mean_of_the_others() -> None:
    with_bone = {**row(1.0, 1.0, 1.0), ("mae_bone", "after", "hu"): 200.0}
    made = report(with_bone, row(1.0, 1.0, 1.0))
    assert made.figures()["mae_bone_after_hu"] == 200.0
    assert "mae_bone_after_hu" not in made.by_patient()["P1"]
    assert dict(made.table())["mae bone (HU)"] == ["", "", "200 (0) n=1"]


def test_large_numbers_are_written_in_full() -> None:
    table = dict(report(row(1100.0, 60.0, 70.0), row(1350.0, 60.25, 70.0)).table())
    assert table["mae (HU)"] == ["1225 (177)", "70 (0)", "60.1 (0.18)"]


def test_the_card_gets_the_table_and_what_it_says() -> None:
    text = report(row(100.0, 60.0, 70.0), row(90.0, 50.0, 64.0)).markdown()
    assert text.startswith("2 test patients, simulated MVCT; mean (SD) over patients, inside the body.\n\n|  | input |")
    assert "| mae (HU) | 95 (7.1) | 67 (4.2) | 55 (7.1) |\n" in text
    assert "- Model against bilateral: lower MAE (55.0, 67.0 HU), higher SSIM (0.950, 0.900).\n" in text
    assert text.endswith("- Tuned on training patients: bilateral (4 mm, 80 HU).\n- Test patients: P0, P1.\n")


def test_the_goals_say_who_is_better() -> None:
    better, worse = report(row(100.0, 60.0, 70.0)).goals(), report(row(100.0, 80.0, 70.0)).goals()
    assert better == [
        "Model against the input: MAE 100.0 to 60.0 HU, 60 % of the input's; SSIM 0.800 to 0.950, +0.150.",
        "Model against bilateral: lower MAE (60.0, 70.0 HU), higher SSIM (0.950, 0.900).",
    ]
    assert "not lower MAE (80.0, 70.0 HU)" in worse[1]


def test_the_goals_say_how_far_the_anatomy_moved_and_what_no_motion_gives() -> None:
    moved = {("deformation_p95", "after", "voxel"): 0.4, ("deformation_p95", "floor", "voxel"): 0.1}
    further = {("deformation_p95", "after", "voxel"): 0.8, ("deformation_p95", "floor", "voxel"): 0.1}
    goals = report({**row(1.0, 1.0, 1.0), **moved}, {**row(1.0, 1.0, 1.0), **further}).goals()
    assert goals[-1] == (
        "Output against input, 95th percentile of the deformation: 0.60 voxels (largest 0.80); "
        "the same patient with other noise 0.10."
    )


def test_the_gain_of_contrast_is_set_against_that_of_the_truth() -> None:
    cnr = {("cnr_muscle_fat", who, ""): value for who, value in (("before", 2.0), ("after", 8.0), ("truth", 12.0))}
    assert report({**row(1.0, 1.0, 1.0), **cnr}).goals()[-1].endswith("model x 4.0, truth x 6.0.")


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    planes = {who: np.zeros((8, 8), np.float32) for who in ("before", "bilateral", "after", "truth")}
    draw_page([Example(planes, {}), Example(planes, {})], tmp_path / "page.png")
    write_html(report(row(100.0, 60.0, 70.0)), tmp_path / "page.png", tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64,iVBOR" in html and "http" not in html
    assert "tiny &lt;b&gt;" in html and "4 mm, 80 HU" in html
    assert [f">{title(who)}</th>" in html for who in ("before", "bilateral", "after")] == [True] * 3
