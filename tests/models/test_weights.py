import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from models.weights import Card, WeightsError, load_card, load_weights, save, shipped, write_card

FACTS: dict[str, Any] = {
    "method": "cyclegan",
    "architecture": {"channels": 4},
    "window_hu": (-800.0, 1200.0),
    "training_domain": {
        "modality": "simulated MVCT",
        "pixel_spacing_mm": (1.0, 5.0),
        "slice_spacing_mm": (1.0, 5.0),
        "body_mean_hu": 0.0,
        "body_mean_sd_hu": 20.0,
        "patients": 2,
        "slices": 10,
    },
    "limits": {"edge_shift_mm": {"flag_above": 0.5, "hold_above": 1.0}},
    "metrics": {"mae_after_hu": 20.5},
}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3)}


def saved(folder: Path) -> tuple[Path, Card]:
    path = folder / "tiny.safetensors"
    return path, save(path, TENSORS, FACTS, "# tiny\n\nFor tests.\n")


def test_card_and_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    path, card = saved(tmp_path)
    loaded, tensors = load_weights(str(path))
    assert loaded == card
    assert loaded.name == "tiny" and loaded.text == "# tiny\n\nFor tests.\n"
    assert loaded.limits["edge_shift_mm"].hold_above == 1.0
    assert torch.equal(tensors["weight"], TENSORS["weight"])


def test_weights_stored_in_half_precision_are_float32_in_use(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save(path, {"weight": TENSORS["weight"].half()}, FACTS, "")
    assert load_weights(str(path))[1]["weight"].dtype == torch.float32


def test_weights_that_differ_from_the_card_are_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    load_card(str(path))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not the one its card describes"):
        load_card(str(path))


def test_absent_weights_are_named(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"weights file .*tiny.* can not be read"):
        load_card(str(path))


def test_an_absent_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"card .*none\.md can not be read"):
        load_card(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no front matter", "no YAML front matter"),
        ("---\n- a list\n---\n", "not a mapping"),
        ("---\nname: [\n---\n", "malformed"),
        ("---\nname: tiny\n---\n", "malformed"),
    ],
)
def test_a_malformed_card_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path, _ = saved(tmp_path)
    path.with_suffix(".md").write_text(content)
    with pytest.raises(WeightsError, match=reason):
        load_card(str(path))


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    path, card = saved(tmp_path)
    path.write_bytes(b"pickle")
    digest = hashlib.sha256(b"pickle").hexdigest()
    write_card(path.with_suffix(".md"), card.model_copy(update={"sha256": digest}))
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_weights(str(path))


def test_a_name_that_is_no_name_is_refused() -> None:
    with pytest.raises(WeightsError, match="neither"):
        load_card("../somewhere/else")


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_are_the_ones_of_their_card(name: str) -> None:
    assert load_card(name).name == name
