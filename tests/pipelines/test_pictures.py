from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pipelines.base import InputRejected
from pipelines.pictures import before_and_after, result_alone
from tests.pipelines.made import ct_series, write


def test_picture_of_an_unchanged_series_reports_no_change(tmp_path: Path) -> None:
    paths = write(ct_series(), tmp_path)
    picture = before_and_after(paths, paths, tmp_path / "pictures" / "job.png", "copy")
    assert picture.mean_change_hu == 0
    assert picture.path.is_file()


def shifted(folder: Path, hu: float) -> tuple[list[Path], list[Path]]:
    """A series, and the same with all values raised."""
    series = {name: ct_series() for name in ("before", "after")}
    for dataset in series["after"]:
        dataset.RescaleIntercept = float(dataset.RescaleIntercept) + hu
    for name in series:
        (folder / name).mkdir()
    return write(series["before"], folder / "before"), write(series["after"], folder / "after")


def test_mean_change_is_that_of_the_arrays(tmp_path: Path) -> None:
    picture = before_and_after(*shifted(tmp_path, 25), tmp_path / "job.png", "shifted")
    assert picture.mean_change_hu == pytest.approx(25)


def test_change_is_drawn_in_colour_and_images_in_grey(tmp_path: Path) -> None:
    picture = before_and_after(*shifted(tmp_path, 150), tmp_path / "job.png", "red")
    colour = np.ptp(imread(picture.path)[..., :3], axis=2).max(axis=0)
    third = len(colour) // 3
    assert colour[: 2 * third - 20].max() < 0.05
    assert colour[2 * third :].max() > 0.3


def test_series_on_other_grids_can_not_be_compared(tmp_path: Path) -> None:
    whole = write(ct_series(), tmp_path)
    with pytest.raises(InputRejected, match="have not the same grid"):
        before_and_after(whole, whole[:3], tmp_path / "job.png", "cut")


def test_a_result_of_what_is_no_image_is_drawn_alone(tmp_path: Path) -> None:
    paths, _ = shifted(tmp_path, 25)
    picture = result_alone(paths, tmp_path / "job.png", "few views")
    assert picture.mean_change_hu is None
    # One column where a comparison has three.
    compared = before_and_after(paths, paths, tmp_path / "both.png", "both")
    widths = [imread(one.path).shape[1] for one in (picture, compared)]
    assert widths[0] == pytest.approx(widths[1] / 3, abs=2)
