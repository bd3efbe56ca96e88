from pathlib import Path

import numpy as np
import pytest

from models.training.card import metrics_table, record_evaluation, tolerance_bound
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


@pytest.mark.parametrize(("n", "k"), [(11, 2.815), (20, 2.396), (50, 2.065)])
def test_tolerance_bound_has_the_published_factors(n: int, k: float) -> None:
    """One-sided factors for 95 % of the population with 95 % confidence (ISO 16269-6, table of k for unknown sigma)."""
    values = np.random.default_rng(n).normal(10.0, 2.0, n)
    bound = tolerance_bound(values, part=0.95, confidence=0.95)
    assert (bound - values.mean()) / values.std(ddof=1) == pytest.approx(k, abs=1e-3)


def test_tolerance_bound_of_one_patient_is_what_was_seen() -> None:
    assert tolerance_bound(np.array([3.0])) == 3.0
