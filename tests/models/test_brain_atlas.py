import numpy as np
import pytest

from models.atlas_registration import atlas_on_patient
from models.brain_atlas import REGIONS, atlas_image, atlas_regions
from models.stability_measures import dice
from tests.models.heads import head, laid, placed


def test_the_atlas_lies_on_itself_without_being_moved() -> None:
    found = atlas_on_patient(atlas_image())
    k, j, i = np.array(atlas_image().hu_zyx.shape) // 2
    place = atlas_image().affine @ (i, j, k, 1.0)
    at = [float(axis[k, j, i]) for axis in found.at]
    np.testing.assert_allclose(at, place[2::-1], atol=0.5)
    assert found.dice > 0.99
    assert abs(found.size_change) < 0.01


@pytest.mark.parametrize(("seed", "oedema"), [(1, 0.1), (2, 0.9)])
def test_registration_puts_deep_grey_matter_where_the_truth_is(seed: int, oedema: float) -> None:
    regions = atlas_regions(laid(seed, oedema).at)
    for name, least in {"putamen": 0.85, "caudate": 0.8, "thalamus": 0.8, "corpus_callosum": 0.75}.items():
        assert dice(regions[name], head(seed, oedema).mask(name)) > least, name


def test_the_same_images_are_registered_alike_bit_for_bit() -> None:
    again = atlas_on_patient(placed(head()))
    for first, second in zip(laid().at, again.at, strict=True):
        np.testing.assert_array_equal(first, second)


def test_regions_do_not_overlap_and_shrink_when_drawn_in() -> None:
    whole, inner = (atlas_regions(laid().at, inset) for inset in (0.0, 1.0))
    assert np.sum(list(whole.values()), axis=0).max() == 1
    for name in REGIONS:
        assert 0 < inner[name].sum() < whole[name].sum(), name
        assert not (inner[name] & ~whole[name]).any(), name
