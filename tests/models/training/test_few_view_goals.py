from collections.abc import Mapping, Sequence

import pytest

from models.training.few_view_goals import goals
from models.training.few_view_measures import Measured, Recovered, Values
from models.training.few_view_methods import title
from models.training.few_view_report import FewViewReport, of_method_under_test
from models.training.few_view_scans import Condition
from models.training.few_view_study import FewViewStudy
from models.weights import Card
from tests.models.test_weights import FACTS

CARD = Card.model_validate({**FACTS, "name": "tiny", "sha256": "0" * 64, "text": ""})
TENTH, TWENTIETH = Condition(80, 1e5), Condition(40, 1e5)


def row(
    method: str, psnr_db: float, ssim: float, condition: Condition = TENTH, patient: str = "P0", number: int = 0
) -> Measured:
    values: Values = {("psnr", "db"): psnr_db, ("ssim", ""): ssim, ("time", "s"): 12.0, ("cpu_time", "s"): 11.0}
    values |= {("invented", "per_slice"): 0.0, ("erased", "per_slice"): 3.0}
    return Measured(patient, number, method, condition, values)


def report(
    rows: Sequence[Measured], lesions: Sequence[Recovered] = (), growth: Mapping[int, float] | None = None
) -> FewViewReport:
    patients = list(dict.fromkeys(one.patient_id for one in rows))
    return FewViewReport(CARD, FewViewStudy(), patients, rows, lesions, None, {}, growth or {})


def sentence_about(words: str, sentences: Sequence[str]) -> str:
    (found,) = (sentence for sentence in sentences if words in sentence)
    return found


@pytest.mark.parametrize(
    ("psnr_db", "ssim", "judged"),
    [(42.0, 0.98, "met"), (41.9, 0.98, "MISSED"), (45.0, 0.979, "MISSED")],
)
def test_both_margins_over_total_variation_have_to_be_reached(psnr_db: float, ssim: float, judged: str) -> None:
    said = goals(report([row("tv", 40.0, 0.95), row("ours", psnr_db, ssim + 1e-9)]))
    assert sentence_about("against IR + TV", said).startswith(f"{judged}: ours at 1/10, against IR + TV on 1 slices")


def test_methods_are_compared_on_the_slices_that_both_reconstructed() -> None:
    rows = [row("ours", 50.0, 0.99, number=0), row("ours", 40.0, 0.9, number=1), row("dds", 45.0, 0.98, number=0)]
    assert "PSNR +5.00 dB, SSIM +0.0100" in sentence_about("against DDS on 1 slices", goals(report(rows)))


def test_the_better_of_two_backprojections_is_compared() -> None:
    rows = [row("fbp_ramp", 30.0, 0.7), row("fbp_hann", 36.0, 0.9), row("ours", 40.0, 0.95)]
    assert "PSNR +4.00 dB" in sentence_about("FBP, Hann", goals(report(rows)))


def test_to_be_worse_than_anything_at_a_twentieth_is_a_miss() -> None:
    rows = [row("tv", 40.0, 0.95, TWENTIETH), row("ours", 40.5, 0.94, TWENTIETH)]
    assert goals(report(rows))[0].startswith("MISSED: ours at 1/20, against IR + TV")


def test_patients_count_alike_however_many_slices_they_have() -> None:
    rows = [row("ours", 40.0, 0.9), row("ours", 40.0, 0.9, number=1), row("ours", 43.0, 0.9, patient="P1")]
    made = report(rows)
    assert made.mean("psnr", "ours", TENTH) == pytest.approx(41.5)
    assert made.figures()["psnr_ours_80_views_db"] == pytest.approx(41.5)
    assert made.figures()["psnr_ours_80_views_db_sd"] == pytest.approx(3.0**0.5)


@pytest.mark.parametrize(("shares", "judged"), [((0.7, 0.9, 0.85), "met"), ((0.7, 0.7, 0.9), "MISSED")])
def test_lesions_are_judged_by_their_mean(shares: Sequence[float], judged: str) -> None:
    lesions = [Recovered("P0", 0, "ours", TENTH, "bright", share) for share in shares]
    said = sentence_about("bright lesions", goals(report([row("ours", 40.0, 0.9)], lesions)))
    assert said.startswith(judged) and "of 3 bright lesions" in said


def test_a_single_invented_blob_is_a_miss() -> None:
    none, some = row("ours", 40.0, 0.9), row("ours", 40.0, 0.9, number=1)
    assert sentence_about("invented", goals(report([none]))).startswith("met")
    some.values["invented", "per_slice"] = 1.0
    assert "MISSED: ours at 1/10, invented blobs (none): 0.5" in sentence_about("invented", goals(report([none, some])))


@pytest.mark.parametrize(("seconds", "judged"), [(41.0, "met"), (60.0, "MISSED")])
def test_time_may_grow_with_the_slices_but_not_faster(seconds: float, judged: str) -> None:
    said = goals(report([row("ours", 40.0, 0.9)], growth={1: 10.0, 4: seconds}))
    assert sentence_about("time grows", said).startswith(judged)
    assert sentence_about("s for a slice", said).startswith("met: ours at 1/10, 12.0 s for a slice (30 s)")


def test_a_missing_figure_is_an_empty_cell_and_a_method_has_its_title() -> None:
    (header, rows), *_ = report([row("ours_t2", 40.0, 0.9)]).tables()
    cells = dict(zip(header, rows[0], strict=True))
    assert cells["method"] == title("ours_t2") == "ours, T = 2"
    assert cells["PSNR (dB)"] == "40.00 (0.00)" and cells["RMSE (HU)"] == ""
    assert cells["views"] == "80 (1/10), 1e+05 photons"


def test_only_figures_of_the_method_belong_into_the_card() -> None:
    assert of_method_under_test("psnr_ours_80_views_db") and of_method_under_test("recovery_plus_ours_40_views")
    assert not any(of_method_under_test(name) for name in ("psnr_tv_80_views_db", "psnr_ours_80_views_db_sd"))
