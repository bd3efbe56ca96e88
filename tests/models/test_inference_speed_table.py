"""The benchmark runs, at its smallest: so that it does not rot."""

from models.inference import METHODS, load_generator
from models.weights import shipped
from tests.benchmarks.enhancement_speed import PLAIN, measured, mvct_slices, table


def test_the_table_has_a_line_for_every_way_and_plain_torch_differs_from_itself_by_nothing() -> None:
    results = measured(load_generator(shipped(METHODS)[0]), mvct_slices(1, 64), rounds=1)
    head, first, *others = table(results).splitlines()
    assert head.split()[0] == "engine"
    assert first.startswith(PLAIN) and first.split()[-1] == "0.0000"
    assert any(line.startswith("torch-f32 box") for line in others)
