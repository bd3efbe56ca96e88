import pytest
import torch
from torch import nn

from models.training.gradients import GradientLimit


def applied(limit: GradientLimit, norm: float) -> float:
    """Norm that is left of a gradient."""
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, norm / 5.0**0.5)
    limit.apply(parameters)
    return float(torch.cat([p.grad for p in parameters if p.grad is not None]).norm())


def test_a_wild_gradient_is_scaled_to_three_times_the_usual_one() -> None:
    limit = GradientLimit()
    assert [applied(limit, 0.5) for _ in range(4)] == pytest.approx([0.5] * 4)
    assert applied(limit, 100.0) == pytest.approx(1.5, rel=1e-4)


def test_what_is_usual_follows_the_training() -> None:
    limit = GradientLimit()
    applied(limit, 100.0)
    for _ in range(500):
        applied(limit, 1.0)
    assert limit.usual == pytest.approx(1.0, rel=0.01)
    for _ in range(500):
        applied(limit, 50.0)
    assert limit.usual == pytest.approx(50.0, rel=0.01)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_asks_for_no_step(value: float) -> None:
    limit = GradientLimit()
    applied(limit, 0.5)
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.full_like(parameter, value)
    assert not limit.apply([parameter])
    assert limit.usual == pytest.approx(0.5)
