from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.imported import ImportedModel, Normalisation
from models.sliding_window import mirrored_mean, slid, window_boxes, window_weights


def model(**facts: Any) -> ImportedModel:
    known: dict[str, Any] = {
        "organs": ("Liver",),
        "spacing_mm": (1.0, 1.0, 1.0),
        "patch": (4, 6, 8),
        "normalisation": Normalisation(scheme="linear"),
    }
    return ImportedModel.model_validate({**known, **facts})


@pytest.mark.parametrize("windows", ["even", "strides"])
@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("shape", [(4, 6, 8), (9, 13, 30), (2, 5, 3), (3, 20, 8)])
def test_a_network_that_changes_nothing_gives_the_volume_back(
    windows: str, gaussian: bool, shape: tuple[int, int, int]
) -> None:
    volume = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    done: list[float] = []
    found = slid(lambda patch: patch, volume, model(windows=windows, gaussian=gaussian), done.append)
    torch.testing.assert_close(found, volume)
    assert done == sorted(done) and done[-1] == 1.0


def starts(length: int, **facts: Any) -> list[int]:
    return sorted({box[2].start for box in window_boxes((4, 6, length), model(**facts))})


def test_patches_lie_where_those_who_trained_the_network_lay_them() -> None:
    assert starts(30) == [0, 4, 7, 11, 15, 18, 22]
    assert starts(30, windows="strides", overlap=0.25) == [0, 6, 12, 18, 22]
    assert starts(8) == starts(8, windows="strides") == [0]


def test_a_network_of_two_dimensions_sees_every_slice_once() -> None:
    flat = model(patch=(1, 6, 8), dimensions=2, spacing_mm=(None, 1.0, 1.0))
    assert [box[0].start for box in window_boxes((5, 6, 8), flat)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("windows", ["even", "strides"])
def test_weights_are_a_gaussian_of_an_eighth_of_the_patch_and_nowhere_zero(windows: str) -> None:
    weights = window_weights(model(patch=(33, 33, 33), windows=windows))
    assert weights.min() > 0.0
    middle = weights[16, 16] / weights[16, 16, 16]
    expected = np.exp(-0.5 * ((np.arange(33) - 16) / (33 / 8)) ** 2)
    np.testing.assert_allclose(middle[8:25], expected[8:25], rtol=0.01)


def test_a_weight_of_strides_is_a_thousandth_at_least() -> None:
    assert window_weights(model(patch=(33, 33, 33), windows="strides")).min() == pytest.approx(1e-3)


def test_mirroring_is_the_mean_over_all_combinations_of_axes() -> None:
    seen: list[Tensor] = []

    def network(patch: Tensor) -> Tensor:
        seen.append(patch)
        return patch * torch.arange(1.0, 3.0).view(1, 1, 1, 1, 2)

    patch = torch.tensor([1.0, 10.0]).view(1, 1, 1, 1, 2).expand(1, 1, 2, 2, 2)
    found = mirrored_mean(network, patch, (0, 2))
    assert len(seen) == 4
    # Each voxel is doubled in half of the views.
    torch.testing.assert_close(found, 1.5 * patch)
    torch.testing.assert_close(mirrored_mean(network, patch, ()), network(patch))
