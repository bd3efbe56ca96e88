from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.patches import blended, gaussian_weights, patch_boxes

NOTHING = torch.zeros(1)


def volume(*shape: int) -> Tensor:
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))


def tripled(patch: Tensor) -> Tensor:
    return torch.cat([3.0 * patch, patch], dim=1)


@pytest.mark.parametrize("shape", [(8, 8, 8), (20, 17, 9), (3, 30, 5), (1, 1, 1)])
def test_the_borders_of_patches_are_invisible(shape: tuple[int, int, int]) -> None:
    image = volume(*shape)
    found = blended(tripled, image, (8, 8, 8), NOTHING)
    torch.testing.assert_close(found, torch.cat([3.0 * image, image]))


def test_a_network_that_looks_around_is_seamless_where_patches_overlap() -> None:
    """A mean over 3 x 3 x 3 voxels sees zeros beyond its patch, but weights are small there."""

    def smoothed(patch: Tensor) -> Tensor:
        return functional.avg_pool3d(patch, 3, stride=1, padding=1)

    image = torch.ones(1, 40, 40, 40)
    inner = blended(smoothed, image, (16, 16, 16), NOTHING)[:, 1:-1, 1:-1, 1:-1]
    assert float((inner - 1.0).abs().max()) < 0.01


@pytest.mark.parametrize(("length", "size"), [(64, 64), (65, 64), (100, 64), (300, 64), (96, 64)])
def test_patches_cover_the_volume_and_overlap_by_half(length: int, size: int) -> None:
    starts = [box[0].start for box in patch_boxes((length, 1, 1), (size, 1, 1))]
    assert starts[0] == 0 and starts[-1] == length - size
    assert all(0 < b - a <= size // 2 for a, b in pairwise(starts))
    assert len(starts) == 1 + -(-(length - size) // (size // 2))


def test_what_lies_around_a_small_volume_is_the_filling() -> None:
    seen: list[Tensor] = []

    def watched(patch: Tensor) -> Tensor:
        seen.append(patch)
        return patch

    image = torch.stack([torch.ones(2, 4, 4), torch.full((2, 4, 4), 2.0)])
    found = blended(watched, image, (4, 4, 4), torch.tensor([-1.0, -2.0]))
    assert torch.equal(found, image)
    assert (seen[0][0, :, 0] == torch.tensor([-1.0, -2.0]).view(2, 1, 1)).all()


def test_weights_are_those_of_a_gaussian_of_an_eighth_of_the_patch() -> None:
    weights = gaussian_weights((17, 17, 17))
    assert float(weights[8, 8, 8]) == 1.0
    assert float(weights[8, 8, 10]) == pytest.approx(0.642, abs=0.001)  # exp(-(2 / (17 / 8))^2 / 2)
    torch.testing.assert_close(weights, weights.flip(0).transpose(0, 2))


def test_progress_ends_at_one() -> None:
    done: list[float] = []
    blended(tripled, volume(10, 10, 10), (8, 8, 8), NOTHING, done.append)
    assert done[-1] == 1.0 and len(done) == 8
