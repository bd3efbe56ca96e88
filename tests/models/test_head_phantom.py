from dataclasses import replace

import numpy as np
import pytest

from models.head_anatomy import GREY_LOST_HU, HeadAnatomy
from models.head_phantom import CSF, LABELS, VENTRICLES, head_phantom
from tests.models.heads import SHAPE, SPACING, head


def test_the_same_seed_is_the_same_head_and_another_is_another() -> None:
    np.testing.assert_array_equal(head().hu_zyx, head.__wrapped__().hu_zyx)
    assert (head().hu_zyx != head(2, 0.9).hu_zyx).mean() > 0.5


def test_every_part_of_the_brain_is_there_with_a_volume_of_an_adult() -> None:
    phantom = head()
    ml = {name: phantom.mask(name).sum() * np.prod(SPACING) / 1000.0 for name in LABELS}
    assert 1100.0 < phantom.brain.sum() * np.prod(SPACING) / 1000.0 < 1800.0
    for name, (low, high) in {
        "caudate": (4, 12),
        "putamen": (4, 12),
        "thalamus": (5, 16),
        "ventricles": (5, 60),
    }.items():
        assert low < ml[name] < high, name
    assert ml["cortex"] > 300.0


def test_the_voxels_of_a_head_without_noise_have_the_hu_of_its_tissues() -> None:
    anatomy = HeadAnatomy(deep_grey_hu=40.0, white_hu=28.0)
    phantom = head_phantom(SHAPE, SPACING, anatomy)
    assert np.median(phantom.hu_zyx[phantom.mask("putamen")]) == pytest.approx(40.0, abs=0.1)
    assert np.median(phantom.hu_zyx[phantom.mask("corpus_callosum")]) == pytest.approx(28.0, abs=0.1)


def test_swelling_darkens_grey_matter_and_closes_sulci_and_ventricles() -> None:
    after = head(2, 0.9)
    before = head_phantom(SHAPE, SPACING, replace(after.anatomy, oedema=0.0))
    fall = np.median(before.hu_zyx[before.mask("putamen")]) - np.median(after.hu_zyx[after.mask("putamen")])
    assert fall == pytest.approx(0.9 * GREY_LOST_HU, abs=0.5)
    assert after.mask(CSF).sum() < 0.5 * before.mask(CSF).sum()
    assert after.mask(VENTRICLES).sum() < 0.7 * before.mask(VENTRICLES).sum()
