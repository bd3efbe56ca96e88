from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.cyclegan import (
    SUPERVISED,
    Architecture,
    Conversion,
    CycleGAN,
    Discriminator,
    Generator,
    LossWeights,
    adversarial_loss,
    air_loss,
    autoencoder_loss,
    conversions,
    cycle_loss,
    discriminator_loss,
    domain_preservation_loss,
    feature_loss,
    forward_conversion,
    generator_losses,
    gradient_loss,
    idempotence_loss,
    paired_loss,
    total_variation,
)

TINY = Architecture(channels=4, encoder_blocks=1, decoder_blocks=1)


def image(value: float = 0.0) -> Tensor:
    return torch.full((1, 1, 32, 32), value)


def model() -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(TINY, discriminator_channels=4)


def identity() -> CycleGAN:
    """All four generators give back their input."""
    net = model()
    for decoder in (net.decoder_a, net.decoder_b):
        nn.init.zeros_(decoder.exit.weight)
        if decoder.exit.bias is not None:
            nn.init.zeros_(decoder.exit.bias)
    return net


def test_a_generator_keeps_the_shape_and_the_range() -> None:
    output = Generator.of(TINY)(torch.rand(2, 1, 24, 40) * 2 - 1)
    assert output.shape == (2, 1, 24, 40)
    assert output.abs().max() <= 1.0


def test_an_untrained_generator_changes_little() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 32, 32) - 0.5
    assert (Generator.of(Architecture())(x) - x).abs().mean() < 0.1


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_an_output_at_the_end_of_the_range_can_come_back(end: float) -> None:
    net = identity()
    bias = net.decoder_b.exit.bias
    assert bias is not None
    nn.init.constant_(bias, end)
    output = net.a_to_b(image(0.2))
    assert output.eq(end).all()
    paired_loss(output, image(0.2)).backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None and torch.sign(bias.grad).item() == end


def test_a_voxel_depends_on_its_neighbourhood_only() -> None:
    torch.manual_seed(0)
    generator = Generator.of(TINY)
    wide = torch.rand(1, 1, 32, 160) - 0.5
    other = wide.clone()
    other[..., 96:] = 1.0
    torch.testing.assert_close(generator(wide)[..., :48], generator(other)[..., :48])


def test_a_discriminator_scores_patches() -> None:
    assert Discriminator(4)(torch.zeros(2, 1, 64, 64)).shape == (2, 1, 12, 12)


def test_the_shipped_size_is_below_the_limit_of_a_file() -> None:
    parameters = sum(p.numel() for p in Generator.of(Architecture()).parameters())
    assert parameters * 4 < 16e6


def test_losses_of_known_images() -> None:
    assert cycle_loss(image(0.5), image(0.2)).item() == pytest.approx(0.3)
    assert adversarial_loss(image(0.5)).item() == pytest.approx(0.25)
    assert discriminator_loss(image(1.0), image(0.0)).item() == 0.0
    assert discriminator_loss(image(0.0), image(1.0)).item() == pytest.approx(1.0)


def test_air_that_appears_costs_its_depth_and_air_that_stays_nothing() -> None:
    assert air_loss(image(0.0), image(-1.0)).item() == pytest.approx(1.0)
    assert air_loss(image(-1.0), image(-0.5)).item() == pytest.approx(0.5)
    assert air_loss(image(-1.0), image(-1.0)).item() == 0.0
    assert air_loss(image(0.0), image(0.5)).item() == 0.0


def test_gradient_and_total_variation_of_a_ramp() -> None:
    ramp = torch.linspace(0.0, 0.31, 32).expand(1, 1, 32, 32)
    assert total_variation(ramp).item() == pytest.approx(0.01, rel=1e-4)
    assert gradient_loss(ramp, ramp + 0.4).item() == pytest.approx(0.0, abs=1e-6)
    assert gradient_loss(image(), ramp).item() == pytest.approx(0.01, rel=1e-4)


def test_the_identity_costs_nothing_but_the_adversaries() -> None:
    net, x, y = identity(), torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    assert autoencoder_loss(net, x, y).item() == 0.0
    assert domain_preservation_loss(net, x, y).item() == 0.0
    assert idempotence_loss(net.a_to_b, x).item() == 0.0


def test_terms_of_weight_zero_are_not_computed_and_the_others_scale() -> None:
    net = model()
    step = conversions(net, torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32))
    single = generator_losses(net, step, LossWeights(cycle_b=1.0, gradient=0.0))
    double = generator_losses(net, step, LossWeights(cycle_b=2.0, gradient=1.0, idempotence=1.0))
    assert "gradient" not in single and {"gradient", "idempotence"} <= set(double)
    assert double["cycle_b"].item() == pytest.approx(2.0 * single["cycle_b"].item())


def test_noise_is_not_added_to_air() -> None:
    step = conversions(identity(), image(), image(-1.0), noise=torch.full((1, 1, 32, 32), 0.3))
    assert torch.equal(step.x_fake, image(-1.0))


def test_encoders_and_decoders_are_shared_between_directions() -> None:
    net = model()
    assert net.a_to_b.encoder is net.a_to_a.encoder
    assert net.a_to_b.decoder is net.b_to_b.decoder
    assert len(net.generator_parameters()) == len({id(p) for p in net.generator_parameters()})


def test_neighbouring_slices_go_in_and_come_out_together() -> None:
    net = CycleGAN(replace(TINY, slices=3), discriminator_channels=4)
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    step = conversions(net, x, y)
    assert step.y_fake.shape == step.x_fake.shape == (2, 3, 32, 32)
    losses = generator_losses(net, step, LossWeights(gradient=1.0, idempotence=1.0))
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("slices", [0, 2, -1])
def test_slices_without_a_middle_one_are_refused(slices: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        Architecture(slices=slices)


@pytest.mark.parametrize("slices", [1, 5])
def test_a_conversion_is_the_middle_slice_of_what_the_generator_makes(slices: int) -> None:
    torch.manual_seed(0)
    generator = Generator.of(replace(TINY, slices=slices))
    x = torch.rand(2, slices, 32, 32) - 0.5
    middle = slices // 2
    torch.testing.assert_close(Conversion(generator)(x), generator(x)[:, middle : middle + 1])


def test_what_the_features_see_unchanged_costs_nothing() -> None:
    def brightness(x: Tensor) -> list[Tensor]:
        return [x.mean(dim=(2, 3), keepdim=True)]

    assert feature_loss(brightness, image(0.2), image(0.2)).item() == 0.0
    assert feature_loss(brightness, image(0.2), image(0.5)).item() == pytest.approx(0.09)


def test_the_supervised_variant_pays_for_the_distance_to_the_truth_alone() -> None:
    assert SUPERVISED.is_supervised() and not LossWeights().is_supervised()
    step = replace(forward_conversion(identity(), image(0.1), image(0.9)), truth=image(0.4))
    losses = generator_losses(model(), step, SUPERVISED)
    assert {name: loss.item() for name, loss in losses.items()} == {"paired": pytest.approx(0.3)}
    assert paired_loss(image(0.1), image(0.4)).item() == pytest.approx(0.3)


def test_of_the_forward_direction_alone_the_other_direction_costs_nothing() -> None:
    step = replace(forward_conversion(identity(), image(-1.0), image(0.9)), truth=image(-1.0))
    losses = generator_losses(model(), step, replace(SUPERVISED, air=1.0, gradient=1.0))
    assert losses["air"].item() == losses["gradient"].item() == 0.0


@pytest.mark.parametrize("term", ["perceptual", "segmentation", "paired"])
def test_a_loss_that_lacks_what_it_needs_says_so(term: str) -> None:
    net = model()
    step = conversions(net, image(), image())
    with pytest.raises(ValueError, match=term):
        generator_losses(net, step, LossWeights(**{term: 1.0}))
