import numpy as np
import pytest

from models.intensity import AIR_HU
from models.intracranial import NoWholeBrain, intracranial
from models.stability_measures import dice
from tests.models.heads import SPACING, head


def test_the_inside_of_the_skull_is_that_of_the_phantom() -> None:
    found = intracranial(head().hu_zyx, SPACING)
    assert dice(found.mask, head().brain) > 0.96
    assert found.volume_ml == pytest.approx(head().brain.sum() * np.prod(SPACING) / 1000.0, rel=0.05)


@pytest.mark.parametrize(
    ("cut", "where"),
    [
        ((slice(0, 24), slice(None), slice(None)), "upper end"),
        ((slice(16, None), slice(None), slice(None)), "lower end"),
        ((slice(None), slice(None), slice(0, 70)), "brain"),
    ],
)
def test_a_brain_that_is_cut_off_is_refused(cut: tuple[slice, ...], where: str) -> None:
    with pytest.raises(NoWholeBrain, match=where):
        intracranial(head().hu_zyx[cut], SPACING)


@pytest.mark.parametrize("hu", [AIR_HU, 40.0, 1000.0])
def test_an_image_of_one_value_has_no_brain(hu: float) -> None:
    with pytest.raises(NoWholeBrain, match="no closed skull"):
        intracranial(np.full((20, 64, 64), hu, np.float32), SPACING)


def test_a_ball_of_tissue_without_bone_is_no_brain() -> None:
    z, y, x = np.ogrid[:34, :112, :112]
    ball = ((z - 17) * 5.0) ** 2 + ((y - 56) * 2.0) ** 2 + ((x - 56) * 2.0) ** 2 < 70.0**2
    with pytest.raises(NoWholeBrain, match="no closed skull"):
        intracranial(np.where(ball, 35.0, AIR_HU).astype(np.float32), SPACING)
