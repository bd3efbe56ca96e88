import pytest
from torch import Tensor, nn

from models.inference import METHODS, load_generator
from models.receptive_field import reach_pixels
from models.weights import shipped


class WholeSlice(nn.Module):
    """The slice less its mean: every pixel changes every other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image - image.mean(dim=(2, 3), keepdim=True))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("layers", "expected"), [(1, 1), (4, 4), (70, 70)])
def test_each_layer_of_three_pixels_looks_one_further(layers: int, expected: int) -> None:
    generator = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(layers)))
    assert reach_pixels(generator, 1, stride=1) == expected


def test_every_phase_of_the_stride_counts() -> None:
    """Halved by 4 pixels and doubled again: the last of two pixels changes the one before, and the one behind both."""
    halved_and_doubled = nn.Sequential(
        nn.Conv2d(1, 1, 4, stride=2, padding=1), nn.Upsample(scale_factor=2, mode="nearest")
    )
    assert reach_pixels(halved_and_doubled, 1, stride=2) == 2


def test_one_that_looks_at_the_whole_slice_has_no_bound() -> None:
    assert reach_pixels(WholeSlice(), 1, stride=4) is None


@pytest.mark.parametrize("name", shipped(METHODS))
def test_the_shipped_networks_have_a_bound(name: str) -> None:
    model = load_generator(name)
    assert model.reach_pixels is not None and 0 < model.reach_pixels < 64
