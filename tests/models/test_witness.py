from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from models.cyclegan import Architecture
from models.weights import WeightsError, save, witness_of, witness_path
from models.witness import METHOD, Expectation, Witness, WitnessNetwork, expectation, load_witness

ARCHITECTURE = Architecture(channels=4, encoder_blocks=1, decoder_blocks=1, slices=3)
WINDOW_HU = (-800.0, 1200.0)
DOMAIN = {
    "modality": "simulated MVCT",
    "pixel_spacing_mm": (1.0, 4.0),
    "slice_spacing_mm": (3.0, 3.0),
    "body_mean_hu": 0.0,
    "body_mean_sd_hu": 50.0,
    "patients": 2,
    "slices": 20,
}


def written(folder: Path, method: str = METHOD) -> tuple[Path, str]:
    """A network that expects the image as it is, with a scale of 30 HU."""
    network = WitnessNetwork(ARCHITECTURE)
    with torch.no_grad():
        network.decoder.exit.weight.zero_()
        network.decoder.exit.bias.zero_()  # type: ignore[union-attr]
    path = folder / "tiny_witness.safetensors"
    facts = {"method": method, "architecture": asdict(ARCHITECTURE), "window_hu": WINDOW_HU, "training_domain": DOMAIN}
    return path, save(path, network.state_dict(), facts, "# tiny\n").sha256


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    path, sha256 = written(tmp_path)
    return load_witness(str(path), sha256)


def test_an_untrained_witness_expects_the_image_within_thirty_hu_on_any_matrix(witness: Witness) -> None:
    rng = np.random.default_rng(0)
    hu_zyx = rng.uniform(-700.0, 1100.0, (5, 30, 41)).astype(np.float32)
    said = expectation(witness, hu_zyx)
    assert np.abs(said.expected_hu_zyx - hu_zyx).max() < 0.1
    assert said.scale_hu_zyx == pytest.approx(np.full(hu_zyx.shape, 30.0), rel=1e-3)


def test_outside_the_window_the_image_itself_is_expected(witness: Witness) -> None:
    hu_zyx = np.full((3, 8, 8), -1000.0, np.float32)
    hu_zyx[1, 4, 4] = 2500.0
    assert (expectation(witness, hu_zyx).expected_hu_zyx == hu_zyx).all()


def test_where_only_a_window_may_change_the_input_is_expected_elsewhere() -> None:
    hu_zyx = np.array([[[-700.0, 50.0, 600.0]]], np.float32)
    whole = Expectation(hu_zyx + 10.0, np.full(hu_zyx.shape, 30.0, np.float32))
    assert whole.within((-600.0, 400.0), hu_zyx).expected_hu_zyx.tolist() == [[[-700.0, 60.0, 600.0]]]


def test_a_witness_with_another_sha256_or_of_another_method_is_refused(tmp_path: Path) -> None:
    path, sha256 = written(tmp_path)
    with pytest.raises(WeightsError, match="not the one that the card of the enhancement names"):
        load_witness(str(path), "0" * 64)
    path, sha256 = written(tmp_path, "supervised")
    with pytest.raises(WeightsError, match="not witness"):
        load_witness(str(path), sha256)


def test_the_witness_of_weights_lies_beside_them(tmp_path: Path) -> None:
    assert witness_of("mvct_to_kvct_headneck") == "mvct_to_kvct_headneck_witness"
    own = tmp_path / "mine.safetensors"
    assert witness_of(str(own)) == str(witness_path(str(own))) == str(tmp_path / "mine_witness.safetensors")
