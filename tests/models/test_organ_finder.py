from pathlib import Path

import numpy as np
import pytest

from models.organ_finder import load_organ_finder
from models.segmentation import segmented
from models.unet import load_segmenter
from models.weights import WeightsError
from tests.models.segmenters import TASK, saved_segmenter
from tests.models.test_weights import saved


def test_the_own_network_is_asked_as_it_is_by_itself(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path)
    finder = load_organ_finder(weights)
    hu = np.random.default_rng(0).normal(0.0, 300.0, (12, 20, 20)).astype(np.float32)
    found, expected = finder.find(hu, (3.0, 2.0, 2.0)), segmented(load_segmenter(weights), hu, (3.0, 2.0, 2.0))
    np.testing.assert_array_equal(found.labels_zyx, expected.labels_zyx)
    assert finder.organs == TASK.organs and not finder.takes_mr and finder.card.name == "organs"


def test_weights_that_find_no_organs_are_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    with pytest.raises(WeightsError, match="cyclegan, which finds no organs"):
        load_organ_finder(str(path))


def test_the_mirrored_image_is_looked_at_only_where_that_is_wanted(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path)
    hu = np.random.default_rng(0).normal(0.0, 300.0, (16, 16, 16)).astype(np.float32)
    plain, mirrored = (load_organ_finder(weights, mirror=mirror).find(hu, (3.0, 3.0, 3.0)) for mirror in (False, True))
    assert plain.labels_zyx.tobytes() != mirrored.labels_zyx.tobytes()
    seen = load_organ_finder(weights, mirror=True).find(hu[:, :, ::-1].copy(), (3.0, 3.0, 3.0))
    exchanged = np.array([0, 2, 1], np.uint8)[seen.labels_zyx[:, :, ::-1]]
    assert float(np.mean(exchanged == mirrored.labels_zyx)) > 0.999


def test_an_organ_of_one_side_only_can_not_be_looked_for_in_the_mirror(tmp_path: Path) -> None:
    weights = saved_segmenter(tmp_path, TASK.model_copy(update={"organs": ("Parotid_L",)}))
    with pytest.raises(WeightsError, match="one side only"):
        load_organ_finder(weights, mirror=True)
