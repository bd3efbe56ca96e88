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
