import pytest

from models.training.drawn_ahead import DrawnAhead


def test_each_update_gets_its_own_draw_in_order() -> None:
    drawn = DrawnAhead(lambda number: number * number, 20, 0)
    assert list(drawn.behind(0)) == [number * number for number in range(20)]


def test_a_run_may_begin_in_the_middle_and_nothing_is_drawn_beyond_its_end() -> None:
    assert list(DrawnAhead(lambda number: number, 8, 0).behind(5)) == [5, 6, 7]


def test_a_draw_that_fails_says_so_at_its_update() -> None:
    drawn = DrawnAhead(lambda number: 1 // (2 - number), 4, 0).behind(0)
    assert next(drawn) == 0
    assert next(drawn) == 1
    with pytest.raises(ZeroDivisionError):
        next(drawn)
