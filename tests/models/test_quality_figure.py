from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from models.quality_figure import draw_change

SPACING = (3.0, 2.0, 2.0)


def head() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    image = np.full((12, 40, 40), -1000.0, np.float32)
    image[2:10, 8:32, 8:32] = 40.0
    image[4:8, 18:22, 18:22] = 700.0
    return image


def colours(png: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Pixels that are red beyond doubt."""
    image = imread(png)
    red: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (
        (image[..., 0] > 0.35) & (image[..., 1] < 0.15) & (image[..., 2] < 0.3)
    )
    return red


def test_a_lesion_that_was_added_is_red_in_the_difference_and_nothing_else_is(tmp_path: Path) -> None:
    changed = head()
    changed[5, 12:16, 12:16] += 500.0
    draw_change(head(), head(), SPACING, tmp_path / "same.png")
    draw_change(head(), changed, SPACING, tmp_path / "changed.png")
    assert not colours(tmp_path / "same.png").any()
    red = colours(tmp_path / "changed.png")
    _, columns = np.nonzero(red)
    # The third of four columns.
    assert red.sum() > 100 and 0.5 < columns.min() / red.shape[1] and columns.max() / red.shape[1] < 0.75


def test_the_same_arrays_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one.png", "other.png"):
        draw_change(head(), head() + 10.0, SPACING, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_an_image_made_of_none_is_drawn_alone(tmp_path: Path) -> None:
    draw_change(None, head(), SPACING, tmp_path / "alone.png")
    draw_change(head(), head(), SPACING, tmp_path / "both.png")
    assert imread(tmp_path / "alone.png").shape[1] * 4 == pytest.approx(imread(tmp_path / "both.png").shape[1], abs=4)


def test_grids_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before has shape"):
        draw_change(head(), head()[1:], SPACING, tmp_path / "a.png")
