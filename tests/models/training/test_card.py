from pathlib import Path

from models.training.card import metrics_table, record_evaluation
from models.weights import load_card, save
from tests.models.test_weights import FACTS, TENSORS

FIGURES = {
    "mae_before_hu": 60.04,
    "mae_before_hu_sd": 5.0,
    "mae_after_hu": 40.51,
    "mae_after_hu_sd": 4.0,
    "patients": 10.0,
}


def test_the_table_has_before_and_after_in_one_row() -> None:
    table = metrics_table(FIGURES)
    assert table.startswith("10 test patients")
    assert "| mae hu | 60 (5) | 40.5 (4) |" in table


def test_figures_are_recorded_in_the_card_once(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    card = save(path, TENSORS, FACTS, "# tiny\n")
    for _ in range(2):
        card = record_evaluation(path.with_suffix(".md"), card, FIGURES)
    read = load_card(str(path))
    assert read.metrics["mae_after_hu"] == 40.51
    assert read.text.count("## Metrics") == 1 and read.text.startswith("# tiny\n")
