import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.engines import (
    ENGINES,
    MEAN_DIFFERENCE_LIMIT_HU,
    REFERENCE,
    EngineUnavailable,
    check_image,
    fastest_engine,
    input_channels,
    made_engine,
    mean_difference_hu,
    offered_engines,
)
from models.inference import METHODS, enhanced, load_generator
from models.phantoms import head_and_neck_phantom
from models.weights import shipped

WINDOW = (-800.0, 1200.0)
OFFERED = [described.split()[0] for described in offered_engines()]


class Detour(nn.Module):
    """The middle slice, plus a tenth of the sum of all slices, plus 0.01; the sum goes by way of a large number."""

    def __init__(self, large: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        self.there, self.back = nn.Conv2d(channels, 1, 1), nn.Conv2d(1, 1, 1)
        for layer, bias in ((self.there, large), (self.back, 0.1 - large)):
            nn.init.ones_(layer.weight)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        middle = image.shape[1] // 2
        change: Tensor = self.back(self.there(image))
        return image[:, middle : middle + 1] + 0.1 * change


class Bessel(nn.Module):
    """A function that no converter knows and that bfloat16 does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = torch.special.bessel_j0(self.layer(image))
        return result


def test_the_reference_is_always_offered_and_the_last_choice() -> None:
    assert OFFERED[-1] == REFERENCE
    assert all(described.split()[1] for described in offered_engines())


def test_without_bfloat16_in_the_cpu_no_engine_emulates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not any("bf16" in described for described in offered_engines())
    assert fastest_engine(Detour().eval(), WINDOW).name in {"openvino-f32", REFERENCE}


@pytest.mark.parametrize("name", OFFERED)
@pytest.mark.parametrize("weights", shipped(METHODS))
def test_every_offered_engine_agrees_with_the_reference_on_the_shipped_weights(weights: str, name: str) -> None:
    model = load_generator(weights)
    engine, reference = (made_engine(each, model.generator) for each in (name, REFERENCE))
    difference = mean_difference_hu(
        engine, reference, check_image(model.generator, model.card.window_hu), model.card.window_hu
    )
    assert difference <= (1e-3 if name.endswith("f32") else MEAN_DIFFERENCE_LIMIT_HU)


@pytest.mark.parametrize("name", OFFERED)
def test_an_engine_gives_a_slice_the_same_bytes_in_any_company_and_in_any_order(name: str) -> None:
    spacing = (6.0, 3.0, 3.0)
    hu = head_and_neck_phantom((9, 96, 104), spacing, np.random.default_rng(3)).hu_zyx
    model = load_generator(shipped(METHODS)[0])
    neighbours = input_channels(model.generator) // 2
    middles = [index for index in (6, 2, 4) if neighbours <= index < len(hu) - neighbours]
    model = replace(model, engine=made_engine(name, model.generator))
    alone = [enhanced(model, hu[at - neighbours : at + neighbours + 1], spacing)[neighbours] for at in middles]
    assert enhanced(model, hu, spacing)[middles].tobytes() == np.stack(alone).tobytes()
    again = replace(model, engine=made_engine(name, model.generator))
    assert enhanced(again, hu, spacing)[middles].tobytes() == np.stack(alone).tobytes()


@pytest.mark.parametrize("name", OFFERED)
def test_an_engine_takes_several_slices_at_once_and_any_size(name: str) -> None:
    generator = Detour(channels=3).eval()
    with torch.inference_mode():
        result = made_engine(name, generator).run(torch.zeros(1, 3, 40, 24))
    np.testing.assert_allclose(result.numpy(), np.full((1, 1, 40, 24), 0.01), rtol=0.005)


def test_an_engine_that_departs_from_the_reference_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    generator = Detour(large=1000.0).eval()
    with caplog.at_level(logging.WARNING):
        assert fastest_engine(generator, WINDOW).name.endswith("f32")
    bf16 = {name for name in OFFERED if name.endswith("bf16")}
    assert {vars(record)["engine"] for record in caplog.records} == bf16


def test_the_log_names_the_engine_that_was_chosen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "models.engines"):
        engine = fastest_engine(Detour().eval(), WINDOW)
    (chosen,) = [vars(record) for record in caplog.records if record.message == "engine chosen"]
    assert chosen["engine"] == engine.described()
    assert chosen["mean_difference_hu"] <= MEAN_DIFFERENCE_LIMIT_HU


def test_what_no_other_engine_can_compute_the_reference_does(caplog: pytest.LogCaptureFixture) -> None:
    generator = Bessel().eval()
    with caplog.at_level(logging.WARNING):
        assert fastest_engine(generator, WINDOW).name == REFERENCE
    assert [vars(record)["engine"] for record in caplog.records] == OFFERED[:-1]


@pytest.mark.parametrize("generator", [Detour(), Bessel()])
def test_the_log_of_the_process_is_left_as_it_was(generator: nn.Module) -> None:
    root = logging.getLogger()
    before = root.level, [*root.filters], [*root.handlers]
    fastest_engine(generator.eval(), WINDOW)
    assert (root.level, root.filters, root.handlers) == before


def test_without_openvino_its_engines_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match="openvino is not installed"):
        made_engine("openvino-f32", Detour().eval())


@pytest.mark.skipif("openvino-f32" not in OFFERED, reason="openvino is not installed")
def test_openvino_reports_its_use_to_nobody() -> None:
    made_engine("openvino-f32", Detour().eval())
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.skipif("openvino-f32" not in OFFERED, reason="openvino is not installed")
def test_openvino_names_what_it_can_not_convert() -> None:
    with pytest.raises(EngineUnavailable, match="can not convert"):
        made_engine("openvino-f32", Bessel().eval())


def test_the_test_image_is_the_same_every_time_and_shows_a_patient() -> None:
    generator = Detour(channels=3)
    image = check_image(generator, WINDOW)
    assert image.shape == (1, 3, 160, 128)
    assert torch.equal(image, check_image(generator, WINDOW))
    assert 0.1 < float((image.abs() < 1.0).float().mean()) < 0.9


def test_every_engine_of_the_table_has_a_name_that_says_its_precision() -> None:
    assert {name.split("-")[1] for name in ENGINES} == {"f32", "bf16"}
