from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.cyclegan import Architecture, Generator
from models.inference import enhanced, load_generator
from models.intensity import body_mask
from models.metrics import mae_hu
from models.phantoms import head_and_neck_phantom
from models.simulate import MvctSettings, simulated_mvct
from models.weights import WeightsError, save, shipped
from tests.models.test_weights import FACTS

TINY = {"channels": 4, "encoder_blocks": 1, "decoder_blocks": 1}
SPACING = (3.0, 1.0, 1.0)


def weights(folder: Path, change_hu: float | None = None, facts: Mapping[str, Any] | None = None) -> str:
    """Random weights; with `change_hu`, ones that add this to every voxel of the window (2000 HU wide)."""
    torch.manual_seed(0)
    generator = Generator.of(Architecture(**TINY))
    bias = generator.decoder.exit.bias
    if change_hu is not None and bias is not None:
        nn.init.zeros_(generator.decoder.exit.weight)
        nn.init.constant_(bias, float(np.arctanh(change_hu / 2000.0)))
    save(folder / "tiny.safetensors", generator.state_dict(), {**FACTS, "architecture": TINY, **(facts or {})}, "")
    return str(folder / "tiny.safetensors")


def volume(shape: tuple[int, int, int] = (3, 40, 40)) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-900.0, 1100.0, shape).astype(np.float32)


def test_the_change_reaches_every_voxel_inside_the_window_and_no_other(tmp_path: Path) -> None:
    hu = volume()
    expected = np.where(hu > -800.0, np.minimum(hu + 50.0, 1200.0), hu)
    np.testing.assert_allclose(enhanced(load_generator(weights(tmp_path, 50.0)), hu, SPACING), expected, atol=0.01)


def test_any_matrix_keeps_its_shape(tmp_path: Path) -> None:
    model = load_generator(weights(tmp_path))
    for shape in ((1, 37, 50), (2, 64, 64), (3, 5, 7)):
        assert enhanced(model, volume(shape), SPACING).shape == shape


def test_the_same_input_gives_the_same_output(tmp_path: Path) -> None:
    model = load_generator(weights(tmp_path))
    np.testing.assert_array_equal(enhanced(model, volume(), SPACING), enhanced(model, volume(), SPACING))


def test_slices_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    model, hu = load_generator(weights(tmp_path)), volume()
    np.testing.assert_allclose(enhanced(model, hu, SPACING)[1:2], enhanced(model, hu[1:2], SPACING), atol=0.01)


def test_at_a_coarser_working_spacing_no_detail_is_lost(tmp_path: Path) -> None:
    model = load_generator(weights(tmp_path, 50.0, {"working_spacing_mm": 2.0}))
    hu = volume((2, 41, 40)) * 0.5
    np.testing.assert_allclose(enhanced(model, hu, SPACING), hu + 50.0, atol=0.01)


def test_progress_ends_at_one(tmp_path: Path) -> None:
    seen: list[float] = []
    enhanced(load_generator(weights(tmp_path)), volume(), SPACING, lambda done, what: seen.append(done))
    assert seen[-1] == 1.0


def test_the_model_is_loaded_once(tmp_path: Path) -> None:
    path = weights(tmp_path)
    assert load_generator(path).generator is load_generator(path).generator


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not fit"):
        load_generator(weights(tmp_path, facts={"architecture": {**TINY, "channels": 8}}))


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_bring_a_simulated_mvct_nearer_to_the_truth(name: str) -> None:
    spacing = (8.0, 4.0, 4.0)
    phantom = head_and_neck_phantom((24, 96, 96), spacing, np.random.default_rng(7))
    mvct = simulated_mvct(phantom.hu_zyx, spacing, MvctSettings(), np.random.default_rng(8))
    output, body = enhanced(load_generator(name), mvct, spacing), body_mask(phantom.hu_zyx)
    assert mae_hu(output, phantom.hu_zyx, body) < mae_hu(mvct, phantom.hu_zyx, body)
