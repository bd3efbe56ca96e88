import math

import pytest
import torch
from torch import Tensor

from models.early_stopping import EarlyStopping, StopRules


def image(value: float, slices: int = 1) -> Tensor:
    return torch.full((slices, 1, 2, 2), value)


def shown(stopping: EarlyStopping, values: list[float], residuals: list[float] | None = None) -> list[float]:
    """Let it see even images until it is over; the variances that it found."""
    variances = []
    for value, residual in zip(values, residuals or [math.inf] * len(values), strict=True):
        variances.append(float(stopping.see(image(value), torch.tensor([residual]))))
        if stopping.is_over():
            break
    return variances


def test_the_first_iterate_at_the_noise_level_is_given_back() -> None:
    stopping = EarlyStopping(StopRules(noise_level=1.0), 1)
    shown(stopping, [0.0, 1.0, 2.0, 3.0], [5.0, 2.0, 0.9, 0.5])
    assert stopping.is_over() and stopping.reasons == ["noise level"] and stopping.iterations == [3]
    assert stopping.image().eq(2.0).all()


def test_the_variance_of_the_last_iterates_is_their_mean_square_distance_from_their_mean() -> None:
    variances = shown(EarlyStopping(StopRules(window=3), 1), [0.0, 1.0, 5.0, 6.0])
    assert math.isnan(variances[0]) and math.isnan(variances[1])
    # Of 0, 1, 5 around 2, and of 1, 5, 6 around 4.
    assert variances[2:] == pytest.approx([(4 + 1 + 9) / 3, (9 + 1 + 4) / 3])


def test_the_iterate_of_the_calmest_window_is_given_back_when_patience_ends() -> None:
    stopping = EarlyStopping(StopRules(window=2, patience=3), 1)
    # The smallest variance is that of 6 and 7; three more follow.
    assert len(shown(stopping, [0.0, 4.0, 6.0, 7.0, 9.0, 12.0, 16.0, 21.0])) == 7
    assert stopping.reasons == ["variance"] and stopping.iterations == [4]
    assert stopping.image().eq(7.0).all()


def test_images_that_keep_calming_down_are_not_stopped() -> None:
    stopping = EarlyStopping(StopRules(window=2, patience=2), 1)
    shown(stopping, [1.0, 0.5, 0.25, 0.125, 0.0625])
    assert not stopping.is_over() and stopping.reasons == ["iterations"] and stopping.iterations == [5]


def test_without_any_rule_the_last_iterate_is_given_back() -> None:
    stopping = EarlyStopping(StopRules(patience=None), 1)
    shown(stopping, [float(value) for value in range(30)])
    assert not stopping.is_over() and stopping.image().eq(29.0).all()


def test_every_slice_stops_by_itself() -> None:
    stopping = EarlyStopping(StopRules(noise_level=1.0), 2)
    for value, residuals in ((0.0, [0.5, 3.0]), (1.0, [0.4, 2.0]), (2.0, [0.3, 1.0])):
        assert not stopping.is_over()
        stopping.see(image(value, slices=2), torch.tensor(residuals))
    assert stopping.is_over() and stopping.iterations == [1, 3]
    assert stopping.image()[0].eq(0.0).all() and stopping.image()[1].eq(2.0).all()


def test_there_is_no_image_before_the_first_iterate() -> None:
    with pytest.raises(ValueError, match="no iterate"):
        EarlyStopping(StopRules(), 1).image()
