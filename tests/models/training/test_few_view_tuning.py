import pytest

from models.training.few_view_tuning import Trial, Tuned, climbed

GRID = (60.0, 125.0, 250.0, 500.0, 1000.0, 2000.0)


@pytest.mark.parametrize("best", GRID)
@pytest.mark.parametrize("start", GRID)
def test_the_best_of_the_grid_is_found_from_any_start(best: float, start: float) -> None:
    value, scores = climbed(GRID, lambda tried: -abs(tried - best), start)
    assert value == best == max(scores, key=lambda tried: scores[tried])


def test_only_what_lies_on_the_way_is_tried() -> None:
    _, scores = climbed(GRID, lambda tried: -abs(tried - 250.0), 500.0)
    assert sorted(scores) == [125.0, 250.0, 500.0, 1000.0]


@pytest.mark.parametrize("best", [4000.0, 28.8])
def test_a_grid_that_ends_at_its_best_goes_on(best: float) -> None:
    value, scores = climbed(GRID, lambda tried: -abs(tried - best), 500.0)
    assert value == pytest.approx(best)
    assert min(scores) < value < max(scores)


def test_what_is_chosen_is_better_than_both_of_its_neighbours() -> None:
    value, scores = climbed(GRID, lambda tried: -abs(tried - 2000.0), 500.0)
    assert value == 2000.0 and 4000.0 in scores


def test_a_parameter_stays_within_its_limits() -> None:
    value, scores = climbed((25.0, 50.0, 100.0), lambda tried: tried, 50.0, limits=(1.0, 200.0))
    assert value == 200.0 and max(scores) == 200.0


def test_where_all_are_alike_the_start_is_kept() -> None:
    assert climbed(GRID, lambda tried: 0.0, 250.0)[0] == 250.0


def test_a_choice_at_the_end_of_what_was_tried_is_admitted() -> None:
    ended = [Trial("dds", 80, value, value) for value in (1.0, 10.0)]
    inside = [Trial("tv", 80, value, -abs(value - 250.0)) for value in (125.0, 250.0, 500.0)]
    words = Tuned({80: 250.0}, 25, 10.0, [*ended, *inside]).words()
    assert words["dds"] == "data weight 10; nothing beyond it was tried"
    assert words["tv"] == "250 mm at 80 views" and words["prior"] == "depth 25"
