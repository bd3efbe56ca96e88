from functools import cache

import numpy as np
import pytest
import torch

from models.training.pairs import Scans, SimulatedPair, simulated_pair
from models.training.slices import TrainingImage, TrainingSlices, limited, planning_images, sparse_images
from models.training.volumes import TrainingDataError
from tests.models.training.test_enhancement import patient

WINDOW = (-800.0, 1200.0)


@cache
def pairs() -> tuple[SimulatedPair, ...]:
    return tuple(simulated_pair(patient(number, "train"), Scans(), 0) for number in (1, 2, 3))


def numbered(patient_id: str, slices: int = 9) -> TrainingImage:
    """Slice k holds 10 k HU; its truth 10 k + 5."""
    hu_zyx = np.broadcast_to(10.0 * np.arange(slices)[:, None, None], (slices, 16, 16)).astype(np.float32)
    return TrainingImage(patient_id, hu_zyx, np.ones(hu_zyx.shape, bool), truth_hu_zyx=hu_zyx + 5.0)


def hu(unit: torch.Tensor) -> torch.Tensor:
    return (unit + 1.0) * 1000.0 - 800.0


def test_truth_lies_on_the_same_place_as_the_image() -> None:
    slices = TrainingSlices([numbered("A"), numbered("B")], [numbered("A"), numbered("B")], WINDOW, 8)
    batch = slices.batch(20, np.random.default_rng(0))
    assert batch.truth is not None
    torch.testing.assert_close(hu(batch.truth) - hu(batch.x), torch.full((20, 1, 8, 8), 5.0), atol=1e-3, rtol=0)


def test_neighbours_are_in_order_and_the_ends_repeat() -> None:
    images = [numbered("A"), numbered("B")]
    x = TrainingSlices(images, images, WINDOW, 8, neighbours=3).batch(200, np.random.default_rng(0)).x
    steps = {tuple(row) for row in (hu(x)[:, :, 0, 0] / 10.0).diff(dim=1).round().int().tolist()}
    assert steps == {(1, 1), (0, 1), (1, 0)}


def test_the_only_patient_with_planning_ct_can_not_be_paired_with_itself() -> None:
    with pytest.raises(TrainingDataError, match="planning CT slices of at least two patients"):
        TrainingSlices([numbered("A"), numbered("B")], [numbered("A")], WINDOW, 8)
    other = TrainingSlices([numbered("A")], [numbered("B")], WINDOW, 8)
    assert other.batch(2, np.random.default_rng(0)).x.shape == (2, 1, 8, 8)


def test_x_and_y_are_never_of_one_patient() -> None:
    low, high = numbered("A"), numbered("B")
    high = TrainingImage("B", high.hu_zyx + np.float32(500.0), high.body)
    batch = TrainingSlices([low, high], [low, high], WINDOW, 8).batch(50, np.random.default_rng(0))
    assert ((hu(batch.x).amax(dim=(1, 2, 3)) > 400.0) != (hu(batch.y).amax(dim=(1, 2, 3)) > 400.0)).all()
    assert batch.truth is None


def test_two_slices_of_one_patient_are_drawn_equally_often_as_two_of_another() -> None:
    images = [numbered("A", 3), numbered("B", 9)]
    slices = TrainingSlices(images, images, WINDOW, 8)
    x = hu(slices.batch(2000, np.random.default_rng(0)).x)[:, 0, 0, 0]
    assert float((x > 25.0).float().mean()) == pytest.approx(6 / 12, abs=0.05)


def test_limited_sets_are_nested_and_use_no_other_slice() -> None:
    images = sparse_images(pairs())
    small, large = (limited(images, size, seed=0) for size in (4, 8))
    for few, many in zip(small, large, strict=True):
        assert set(few.drawn_slices()) <= set(many.drawn_slices())
    assert sum(len(image.drawn_slices()) for image in small) == 4
    assert [image.slices for image in limited(images, None, seed=0)] == [None, None, None]


def test_the_chosen_slices_keep_their_neighbours() -> None:
    chosen = [[2], [3], []]
    slices = TrainingSlices.of_pairs(pairs(), WINDOW, 32, neighbours=3, chosen=chosen)
    assert len(slices) == 2 and slices.patients == 2
    x = slices.batch(4, np.random.default_rng(0)).x
    assert not torch.equal(x[:, 0], x[:, 1]) and not torch.equal(x[:, 1], x[:, 2])


def test_white_noise_stands_in_where_the_scanner_is_unknown() -> None:
    noise = (
        TrainingSlices([numbered("A"), numbered("B")], [numbered("A"), numbered("B")], WINDOW, 8)
        .batch(50, np.random.default_rng(0))
        .noise
    )
    assert float(noise.std()) == pytest.approx(1.0, abs=0.05)


def test_noise_of_the_scanner_has_the_texture_of_the_scanner() -> None:
    slices = TrainingSlices.of_pairs(pairs(), WINDOW, 32, neighbours=3)
    noise = slices.batch(30, np.random.default_rng(0)).noise
    assert noise.shape == (30, 3, 32, 32) and float(noise.std()) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("bodies", [0, 1])
def test_without_two_bodies_there_is_nothing_to_draw(bodies: int) -> None:
    image = numbered("A")
    empty = TrainingImage("A", image.hu_zyx, np.zeros(image.body.shape, bool))
    with pytest.raises(TrainingDataError):
        TrainingSlices([image if bodies else empty], planning_images(pairs())[:0] or [image], WINDOW, 8)
