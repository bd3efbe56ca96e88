"""Materials, spectrum and panel: what cone-beam CT is simulated from."""

from dataclasses import replace

import numpy as np
import pytest

from models.flat_panel import FlatPanel
from models.materials import MATERIALS, REFERENCE_KEV, linear_attenuation_per_mm, water_and_bone
from models.xray_beam import Beam, Tube, bow_tie_aluminium_mm, hardened_beam, monochromatic_beam

QUIET = FlatPanel(photons_per_mm2=1e10, electronic_photons=0.0, blur_fwhm_mm=0.0, lag=0.0, scatter_per_path=0.0)
OPEN = np.zeros(3)
FLAT = np.ones(40, np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", ["water", "bone"])
def test_both_tables_agree_at_the_reference_energy(name: str) -> None:
    assert linear_attenuation_per_mm(name, REFERENCE_KEV) == pytest.approx(MATERIALS[name].kv_per_mm(), rel=1e-6)


def test_water_and_bone_attenuate_as_the_hu_say() -> None:
    hu = np.array([-1000.0, -500.0, 0.0, 60.0, 100.0, 400.0, 1500.0, 2500.0])
    water, bone = water_and_bone(hu)
    per_mm = sum(
        part * linear_attenuation_per_mm(name, REFERENCE_KEV) for name, part in (("water", water), ("bone", bone))
    )
    read_hu = 1000.0 * (per_mm / linear_attenuation_per_mm("water", REFERENCE_KEV) - 1.0)
    np.testing.assert_allclose(read_hu, hu, atol=0.5)
    assert np.all(bone[:5] == 0.0)


def test_more_voltage_makes_a_harder_beam() -> None:
    means = [np.dot(*Tube(peak_kv).detected_spectrum()) for peak_kv in (80.0, 100.0, 125.0)]
    assert means == sorted(means)
    assert 50.0 < means[0] < means[-1] < 75.0


def test_few_bins_attenuate_like_the_whole_spectrum() -> None:
    tube, thickness_mm = Tube(125.0), np.array([20.0, 100.0, 300.0], np.float32)
    energy_kev, share = tube.detected_spectrum()
    fine = Beam(energy_kev, share[None].repeat(3, 0))
    through = [beam.transmitted(thickness_mm, np.zeros(3, np.float32)) for beam in (hardened_beam(tube, OPEN), fine)]
    np.testing.assert_allclose(-np.log(through[0]), -np.log(through[1]), rtol=0.01)


def test_the_water_correction_undoes_the_hardening_in_water() -> None:
    beam = hardened_beam(Tube(), np.array([0.0, 5.0, 20.0]))
    water_mm = np.linspace(-20.0, 500.0, 90, dtype=np.float32).reshape(30, 3)
    back = beam.as_water_mm(beam.transmitted(water_mm, np.zeros_like(water_mm)))
    np.testing.assert_allclose(back, water_mm, atol=0.1)


def test_bone_hardens_the_beam_more_than_water_does() -> None:
    bone_mm = np.array([[5.0, 5.0, 5.0], [40.0, 40.0, 40.0]], np.float32)
    hardened, straight = (
        beam.as_water_mm(beam.transmitted(np.zeros_like(bone_mm), bone_mm))[:, 0]
        for beam in (hardened_beam(Tube(), OPEN), monochromatic_beam(OPEN))
    )
    assert hardened[1] / hardened[0] < 7.5
    assert straight[1] / straight[0] == pytest.approx(8.0, rel=1e-3)


def test_a_bow_tie_filter_lets_the_middle_through() -> None:
    aluminium_mm = bow_tie_aluminium_mm(np.array([0.0, 50.0, 100.0]), 220.0)
    assert aluminium_mm[0] == 0.0
    flat = hardened_beam(Tube(), aluminium_mm).flat()
    assert 1.0 == pytest.approx(flat[0]) and flat[0] > flat[1] > flat[2] > 0.0


def test_counted_photons_scatter_like_their_root() -> None:
    read = replace(QUIET, photons_per_mm2=100.0).measured(np.full((20, 40, 40), 0.5, np.float32), 2.0, 1.0, rng())
    assert read.mean() == pytest.approx(0.5, rel=0.005)
    assert read.std() == pytest.approx(np.sqrt(0.5 / 200.0), rel=0.02)


def test_electronic_noise_is_there_in_the_dark() -> None:
    panel = replace(QUIET, photons_per_mm2=1000.0, electronic_photons=10.0)
    assert panel.measured(np.zeros((20, 40, 40), np.float32), 2.0, 2.0, rng()).std() == pytest.approx(0.005, rel=0.02)


def test_lag_is_carried_over_to_the_following_views() -> None:
    flash = np.zeros((5, 4, 4), np.float32)
    flash[1] = 1.0
    read = replace(QUIET, lag=0.1).measured(flash, 1.0, 1.0, rng())[:, 2, 2]
    np.testing.assert_allclose(read, [0.0, 0.9, 0.09, 0.009, 0.0009], atol=1e-4)


def test_blur_keeps_what_is_even_and_spreads_an_edge() -> None:
    edge = np.ones((1, 20, 40), np.float32)
    edge[..., 20:] = 0.2
    read = replace(QUIET, blur_fwhm_mm=2.0).measured(edge, 1.0, 1.0, rng())[0, 10]
    assert read[[0, 10]] == pytest.approx(1.0, abs=1e-3)
    assert 0.7 < read[19] < 0.95
    assert read.sum() == pytest.approx(edge[0, 10].sum(), rel=1e-3)


def test_scatter_is_broad_and_comes_from_where_photons_are_lost() -> None:
    primary = np.ones((1, 40, 40), np.float32)
    panel = replace(QUIET, scatter_per_path=0.3, scatter_fwhm_mm=100.0)
    assert not panel.scattered(primary, FLAT, 5.0, 5.0).any()
    primary[:, 10:30, 10:30] = np.exp(-2.0)
    scatter = panel.scattered(primary, FLAT, 5.0, 5.0)[0]
    # All that one ray of the slab makes is 0.3 * 2 * its primary; the kernel spreads it over the panel and beyond.
    assert 0.3 * 0.6 * np.exp(-2.0) * 400 < scatter.sum() < 0.6 * np.exp(-2.0) * 400
    assert scatter[20, 20] > scatter[20, 2] > 0.2 * scatter[20, 20]
