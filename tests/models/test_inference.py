from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.cyclegan import Architecture, Generator
from models.engines import REFERENCE, Engine, made_engine
from models.inference import METHODS, EnhancementModel, enhanced, load_generator
from models.metrics import mae_hu
from models.phantoms import head_and_neck_phantom
from models.training.pairs import CLINICAL_SCANS, Modality, SimulatedPair, simulated_pair
from models.training.volumes import TrainingVolume
from models.weights import Card, WeightsError, load_card, save, shipped
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


def exact(path: str) -> EnhancementModel:
    """The model with the reference engine: for answers that are known to more than a bfloat16 holds."""
    model = load_generator(path)
    return replace(model, engine=made_engine(REFERENCE, model.generator))


def volume(shape: tuple[int, int, int] = (3, 40, 40)) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-900.0, 1100.0, shape).astype(np.float32)


def test_the_change_reaches_every_voxel_inside_the_window_and_no_other(tmp_path: Path) -> None:
    hu = volume()
    expected = np.where(hu > -800.0, np.minimum(hu + 50.0, 1200.0), hu)
    np.testing.assert_allclose(enhanced(exact(weights(tmp_path, 50.0)), hu, SPACING), expected, atol=0.01)


def test_any_matrix_keeps_its_shape(tmp_path: Path) -> None:
    model = load_generator(weights(tmp_path))
    for shape in ((1, 37, 50), (2, 64, 64), (3, 5, 7)):
        assert enhanced(model, volume(shape), SPACING).shape == shape


def test_the_same_input_gives_the_same_output(tmp_path: Path) -> None:
    model = load_generator(weights(tmp_path))
    np.testing.assert_array_equal(enhanced(model, volume(), SPACING), enhanced(model, volume(), SPACING))


def test_a_slice_has_the_same_bytes_alone_and_among_others(tmp_path: Path) -> None:
    model, hu = load_generator(weights(tmp_path)), volume()
    assert enhanced(model, hu, SPACING)[1:2].tobytes() == enhanced(model, hu[1:2], SPACING).tobytes()


@pytest.mark.parametrize("working_mm", [None, 2.0])
def test_what_is_computed_of_the_air_makes_no_difference(tmp_path: Path, working_mm: float | None) -> None:
    model = exact(weights(tmp_path, facts={"working_spacing_mm": working_mm}))
    hu = np.full((1, 400, 420), -1000.0, np.float32)
    hu[:, 103:160, 231:290] = volume((1, 57, 59))
    whole = replace(model, reach_pixels=None)
    np.testing.assert_allclose(enhanced(model, hu, SPACING), enhanced(whole, hu, SPACING), atol=0.01)


def test_a_slice_of_air_is_not_computed(tmp_path: Path) -> None:
    def run(image: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    model = replace(load_generator(weights(tmp_path)), engine=Engine("torch-f32", run))
    air = np.full((2, 64, 64), -1000.0, np.float32)
    np.testing.assert_array_equal(enhanced(model, air, SPACING), air)


def test_a_network_of_three_slices_gets_both_neighbours() -> None:
    generator = nn.Conv2d(3, 1, 1, bias=False)
    with torch.no_grad():
        generator.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1))
    card = Card.model_validate({**FACTS, "architecture": TINY, "name": "before", "sha256": "0" * 64})
    model = EnhancementModel(card, generator, made_engine(REFERENCE, generator), reach_pixels=0)
    hu = volume((4, 16, 20)) * 0.5
    np.testing.assert_allclose(enhanced(model, hu, SPACING), hu[[0, 0, 1, 2]], atol=0.01)


def test_at_a_coarser_working_spacing_no_detail_is_lost(tmp_path: Path) -> None:
    model = exact(weights(tmp_path, 50.0, {"working_spacing_mm": 2.0}))
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


@cache
def unseen_pair(modality: Modality) -> SimulatedPair:
    spacing = (8.0, 4.0, 4.0)
    phantom = head_and_neck_phantom((24, 96, 96), spacing, np.random.default_rng(7))
    return simulated_pair(TrainingVolume("phantom", None, phantom.hu_zyx, spacing), CLINICAL_SCANS[modality], 8)


@pytest.mark.parametrize("name", shipped(METHODS))
def test_shipped_weights_bring_an_image_of_their_scanner_nearer_to_the_truth(name: str) -> None:
    pair = unseen_pair("cbct" if "CBCT" in load_card(name).training_domain.modality else "mvct")
    truth = pair.volume.hu_zyx
    output = enhanced(load_generator(name), pair.sparse_hu_zyx, pair.volume.spacing_zyx_mm)
    assert mae_hu(output, truth, pair.body) < mae_hu(pair.sparse_hu_zyx, truth, pair.body)


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(WeightsError, match="are of the method diffusion, not cyclegan or supervised"):
        load_generator("planning_ct_prior")
