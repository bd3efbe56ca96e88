import logging
import sys
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from models.feature_library import RadiomicsUnavailable
from models.feature_region import FeatureError, region_of
from models.feature_settings import FeatureSettings
from models.ibsi_names import FAMILY_CODES, FEATURE_NAMES, Family
from models.radiomics import Feature, features
from models.spatial_autocorrelation import moran_and_geary
from tests.models.ibsi import (
    CT_CONFIGURATIONS,
    DIGITAL_PHANTOM,
    FILTER_CONFIGURATIONS,
    Comparison,
    Phantom,
    compared,
    ct_phantom,
    digital_phantom,
    filter_references,
    golden_references,
    ibsi_folder,
    references,
)

needs_ibsi = pytest.mark.skipif(
    not ibsi_folder().is_dir(), reason=f"there is no {ibsi_folder()}: RTNODE_DATA names the folder of real data"
)
QUICK: dict[str, Any] = {"families": ["statistics"]}


def settings(**changes: Any) -> FeatureSettings:
    return FeatureSettings.model_validate({**QUICK, **changes})


def by_tag(found: tuple[Feature, ...]) -> dict[str, Feature]:
    return {one.tag: one for one in found}


def missed(results: list[Comparison]) -> list[str]:
    return [str(one) for one in results if not one.passed]


def test_every_value_of_the_digital_phantom_is_that_of_the_consensus() -> None:
    results = compared(digital_phantom(), DIGITAL_PHANTOM, golden_references())
    assert len(results) == 482
    assert not missed(results)


@needs_ibsi
def test_golden_numbers_are_those_of_the_published_table() -> None:
    assert golden_references() == references(ibsi_folder(), "dig. phantom")


@needs_ibsi
@pytest.mark.parametrize(
    ("name", "families", "known"),
    [("A", ["statistics", "ngtdm"], 28), ("E", ["intensity_histogram", "intensity_volume_histogram", "glcm"], 79)],
)
def test_values_of_the_ct_phantom_are_those_of_the_consensus(name: str, families: list[str], known: int) -> None:
    chosen = FeatureSettings.model_validate({**CT_CONFIGURATIONS[name].model_dump(), "families": families})
    wanted = [one for one in references(ibsi_folder(), f"config. {name}") if FEATURE_NAMES[one.tag].family in families]
    results = compared(ct_phantom(ibsi_folder()), chosen, wanted)
    assert len(results) == known
    assert not missed(results)


@needs_ibsi
@pytest.mark.parametrize("name", ["2.A", "3.A", "4.A", "8.A"])
def test_values_of_filtered_images_are_those_of_the_consensus(name: str) -> None:
    results = compared(
        ct_phantom(ibsi_folder()), FILTER_CONFIGURATIONS[name], filter_references(ibsi_folder(), name)
    )  # fmt: skip
    assert len(results) == 18
    assert not missed(results)


def sphere(radius_mm: float, spacing_zyx_mm: tuple[float, float, float]) -> Phantom:
    """A sphere of noise in the middle of a ramp of HU."""
    axes = [np.arange(-radius_mm - 3 * mm, radius_mm + 3 * mm, mm) for mm in spacing_zyx_mm]
    z, y, x = np.meshgrid(*(axis - axis.mean() for axis in axes), indexing="ij")
    noise = np.random.default_rng(0).normal(0.0, 20.0, z.shape)
    return Phantom(2.0 * z + noise, z**2 + y**2 + x**2 <= radius_mm**2, spacing_zyx_mm)


def found_in(phantom: Phantom, chosen: FeatureSettings) -> dict[str, Feature]:
    return by_tag(features(phantom.image_zyx, phantom.mask_zyx, phantom.spacing_zyx_mm, chosen))


def test_a_sphere_has_the_volume_area_and_diameter_of_one() -> None:
    found = found_in(sphere(14.0, (2.0, 1.0, 1.0)), settings(families=["morphology"]))
    assert found["morph_volume"].value == pytest.approx(4 / 3 * np.pi * 14.0**3, rel=0.02)
    # Between vertices of the mesh, which lie half a voxel outside its voxels.
    assert 28.0 <= found["morph_diam"].value <= 30.0
    # The steps of a mesh of voxels add about a tenth to the area of a sphere, however small they are.
    assert found["morph_sphericity"].value == pytest.approx(0.91, abs=0.04)
    assert (found["morph_volume"].unit, found["morph_area_mesh"].unit) == ("mm3", "mm2")
    assert found["morph_integ_int"].unit == "[hnsf'U].mm3"


def test_resampled_features_are_those_of_the_same_body_on_the_other_grid() -> None:
    resampling = {"resampling": {"spacing_mm": 1.0, "interpolation": "cubic"}}
    coarse = found_in(sphere(14.0, (2.0, 1.5, 1.5)), settings(families=["morphology"], **resampling))
    assert coarse["morph_volume"].value == pytest.approx(4 / 3 * np.pi * 14.0**3, rel=0.03)


def test_resampled_hu_are_whole_numbers_and_other_intensities_are_not() -> None:
    phantom, resampling = sphere(8.0, (2.0, 1.0, 1.0)), {"spacing_mm": 1.3, "interpolation": "linear"}
    hu, arbitrary = (
        region_of(*_arrays(phantom), settings(resampling=resampling, intensities=kind)).image_zyx
        for kind in ("HU", "arbitrary")
    )
    np.testing.assert_array_equal(hu, np.round(arbitrary))
    assert (hu != arbitrary).any()


def test_autocorrelation_of_a_large_region_takes_all_pairs_of_its_voxels() -> None:
    phantom = sphere(8.0, (1.0, 1.0, 1.0))
    assert phantom.mask_zyx.sum() > 1000
    found = found_in(phantom, settings(families=["morphology"], intensities="arbitrary"))
    assert (found["morph_moran_i"].value, found["morph_geary_c"].value) == pytest.approx(
        moran_and_geary(*_arrays(phantom))
    )


def test_values_do_not_depend_on_where_the_image_was_cut() -> None:
    phantom, chosen = sphere(9.0, (1.7, 1.1, 1.1)), {"resampling": {"spacing_mm": 1.3, "interpolation": "cubic"}}
    larger = Phantom(np.pad(phantom.image_zyx, 40), np.pad(phantom.mask_zyx, 40), phantom.spacing_zyx_mm)
    narrow, wide = (found_in(larger, settings(margin_mm=margin, **chosen)) for margin in (0.0, 100.0))
    assert [one.value for one in narrow.values()] == [one.value for one in wide.values()]


def test_a_filter_sees_the_image_around_the_region() -> None:
    flat = np.zeros((9, 9, 9))
    flat[:, :, 6:] = 100.0
    mask = np.zeros(flat.shape, np.bool_)
    mask[2:7, 2:7, 2:6] = True
    chosen = settings(filter={"kind": "mean", "support_voxels": 3}, margin_mm=3.0)
    found = by_tag(features(flat, mask, (1.0, 1.0, 1.0), chosen))
    # Of the last column before the step every third neighbour lies behind it.
    assert found["stat_max"].value == pytest.approx(100.0 / 3)
    assert found["stat_max"].unit == "1"


@pytest.mark.parametrize(
    "filter_", [{"kind": "mean", "support_voxels": 3}, {"kind": "laplacian_of_gaussian", "sigma_mm": 1.5}]
)
def test_a_filter_needs_voxels_as_long_as_wide(filter_: dict[str, Any]) -> None:
    thick = sphere(8.0, (3.0, 1.0, 1.00001))
    with pytest.raises(FeatureError, match="A filter needs voxels that are as long as wide: set a resampling"):
        found_in(thick, settings(filter=filter_))
    in_slices = {"dimensions": "2D", "aggregations": ["2D, averaged"]}
    assert found_in(thick, settings(filter=filter_, **in_slices))
    assert found_in(thick, settings(filter=filter_, resampling={"spacing_mm": 1.0}))


def test_brighter_by_a_constant_shifts_the_mean_and_leaves_texture_of_fixed_bin_number_alone() -> None:
    chosen = settings(families=["statistics", "glcm"], discretisation={"method": "fixed_bin_number", "bins": 16})
    phantom = sphere(8.0, (1.0, 1.0, 1.0))
    dark = found_in(phantom, chosen)
    bright = found_in(Phantom(phantom.image_zyx + 100.0, phantom.mask_zyx, phantom.spacing_zyx_mm), chosen)
    assert bright["stat_mean"].value == pytest.approx(dark["stat_mean"].value + 100.0)
    assert bright["stat_mean"].unit == "[hnsf'U]"
    assert bright["cm_contrast"].value == dark["cm_contrast"].value


def test_a_value_says_what_it_is_and_how_it_was_made() -> None:
    chosen = settings(families=["glcm", "glszm"], aggregations=["2D, averaged", "3D, merged"])
    found = features(*_arrays(sphere(8.0, (1.0, 1.0, 1.0))), chosen)
    contrast = [one for one in found if one.tag == "cm_contrast"]
    assert [(one.aggregation, one.aggregation_code) for one in contrast] == [
        ("2D, averaged", "BTW3"),
        ("3D, merged", "IAZD"),
    ]
    zones = [one for one in found if one.tag == "szm_sze"]
    assert [(one.aggregation, one.aggregation_code) for one in zones] == [("2D", "8QNN"), ("3D", "KOBO")]
    assert (contrast[0].name, contrast[0].ibsi_code, contrast[0].family) == ("Contrast", "ACUI", Family.GLCM)
    assert {one.settings_sha256 for one in found} == {chosen.sha256()}


def test_a_single_grey_level_has_features_and_none_that_is_a_guess() -> None:
    flat = np.full((9, 9, 9), 40.0)
    mask = np.zeros(flat.shape, np.bool_)
    mask[2:7, 2:7, 2:7] = True
    found = by_tag(features(flat, mask, (1.0, 1.0, 1.0), FeatureSettings()))
    assert found["stat_mean"].value == 40.0
    assert found["stat_var"].value == 0.0
    assert found["ih_entropy"].value == pytest.approx(0.0, abs=1e-12)
    assert found["morph_moran_i"].value == 1.0


def test_a_region_of_one_slice_has_all_features() -> None:
    phantom = sphere(12.0, (3.0, 1.0, 1.0))
    middle = len(phantom.mask_zyx) // 2
    one_slice = np.zeros_like(phantom.mask_zyx)
    one_slice[middle] = phantom.mask_zyx[middle]
    found = features(phantom.image_zyx, one_slice, phantom.spacing_zyx_mm, FeatureSettings())
    assert len(found) == len(FEATURE_NAMES)
    assert all(np.isfinite(one.value) for one in found if one.family is not Family.MORPHOLOGY)


def test_nothing_is_printed_logged_or_changed(capfd: pytest.CaptureFixture[str]) -> None:
    phantom, handlers = sphere(8.0, (1.0, 1.0, 1.0)), logging.root.handlers[:]
    before = phantom.image_zyx.copy(), phantom.mask_zyx.copy()
    filter_ = {"kind": "laplacian_of_gaussian", "sigma_mm": 1.0}
    first, again = (found_in(phantom, settings(filter=filter_)) for _ in range(2))
    assert first == again
    np.testing.assert_array_equal(phantom.image_zyx, before[0])
    np.testing.assert_array_equal(phantom.mask_zyx, before[1])
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == handlers


def _arrays(phantom: Phantom) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]:
    return phantom.image_zyx, phantom.mask_zyx, phantom.spacing_zyx_mm


def cube(voxels: int, value: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    image, mask = np.full((8, 8, 8), value), np.zeros((8, 8, 8), np.bool_)
    mask.ravel()[:voxels] = True
    return image, mask


@pytest.mark.parametrize(
    ("arrays", "chosen", "sentence"),
    [
        (cube(3), settings(), "The region has 3 voxels; features need at least 64"),
        (cube(0), settings(), "The region has no voxel on the image"),
        ((cube(99)[0], np.ones((8, 8, 9), np.bool_)), settings(), r"The region is on a grid of \(8, 8, 9\), the image"),
        (cube(99, np.nan), settings(), "The image has values that are not finite"),
        (
            cube(99, 900.0),
            settings(resegmentation_range=[-1000, 400]),
            "99 voxels, of which 0 are within the intensities wanted; features need at least 64",
        ),
        (cube(99), settings(discretisation=None), "have to be whole numbers from 1 on"),
    ],
)
def test_what_has_no_features_is_refused_in_a_sentence(
    arrays: tuple[NDArray[np.float64], NDArray[np.bool_]], chosen: FeatureSettings, sentence: str
) -> None:
    with pytest.raises(FeatureError, match=sentence):
        features(*arrays, (1.0, 1.0, 1.0), chosen)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("bin_width: 25", "bin_width"),
        ("discretisation: {method: fixed_bin_size, width: 0}", "greater than 0"),
        ("resegmentation_range: [400, -500]", "from the lower to the higher"),
        ("{dimensions: 2D, aggregations: ['3D, merged']}", "can not be aggregated in 3D"),
        ("intensities: arbitrary", "needs a resegmentation_range unless"),
        ("filter: {kind: mean, support_voxels: 3}", "take fixed_bin_number"),
        ("{families: [morphology], filter: {kind: mean, support_voxels: 3}}", "changes no shape"),
        ("filter: {kind: riesz}", "riesz"),
        ("filter: {kind: laws, kernel: L5E7}", "kernel"),
        ("{filter: {kind: laws, kernel: L5E5}, families: [statistics]}", "one direction for each dimension"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(document: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        FeatureSettings.model_validate(yaml.safe_load(document))


def test_settings_come_back_from_what_they_are_written_as_with_their_digest() -> None:
    for chosen in (FeatureSettings(), *CT_CONFIGURATIONS.values(), *FILTER_CONFIGURATIONS.values()):
        again = FeatureSettings.model_validate(yaml.safe_load(yaml.safe_dump(chosen.model_dump(mode="json"))))
        assert again == chosen
        assert again.sha256() == chosen.sha256()
    digests = {one.sha256() for one in (*CT_CONFIGURATIONS.values(), *FILTER_CONFIGURATIONS.values())}
    assert len(digests) == len(CT_CONFIGURATIONS) + len(FILTER_CONFIGURATIONS)


def test_the_absence_of_the_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mirp", None)
    with pytest.raises(RadiomicsUnavailable, match="install rtnode with the extra radiomics"):
        features(*_arrays(sphere(8.0, (1.0, 1.0, 1.0))), settings())


def test_there_are_as_many_features_as_the_standard_has() -> None:
    assert len(FEATURE_NAMES) == 169
    assert {one.family for one in FEATURE_NAMES.values()} == set(Family) == set(FAMILY_CODES)
