import numpy as np
import pytest
from scipy import ndimage

from models.feature_robustness import (
    FeatureStability,
    Perturbation,
    Subject,
    noisier,
    refined,
    resized,
    robustness,
    shifted,
    stable_features,
    standard_perturbations,
)
from models.feature_settings import FeatureSettings

QUICK = FeatureSettings.model_validate(
    {"families": ["statistics"], "resegmentation_range": [-1000, 3000], "margin_mm": 0.0}
)


def ball(radius_mm: float, hu: float = 40.0, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> Subject:
    """A ball of one HU in air, in noise of 1 HU."""
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * mm for n, mm in zip((24, 40, 40), spacing, strict=True)),
                          indexing="ij")  # fmt: skip
    mask = z**2 + y**2 + x**2 <= radius_mm**2
    noise = np.random.default_rng(int(radius_mm)).normal(0.0, 1.0, mask.shape)
    return Subject(np.where(mask, hu, -1000.0) + noise, mask, spacing)


def test_a_shift_by_whole_voxels_moves_the_region_and_nothing_else() -> None:
    subject = ball(9.0)
    moved = shifted((2.0, 0.0, -1.0))(subject)
    np.testing.assert_array_equal(moved.mask_zyx, np.roll(subject.mask_zyx, (1, -1), (0, 2)))
    assert moved.image_zyx is subject.image_zyx


def test_a_shift_by_part_of_a_voxel_moves_the_middle_by_as_much() -> None:
    subject = ball(12.0)
    moved = shifted((0.0, 0.5, 0.0))(subject)
    middle = [np.argwhere(one.mask_zyx)[:, 1].mean() for one in (subject, moved)]
    assert middle[1] - middle[0] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("by_mm", [-2.5, -1.0, 1.0, 2.5])
def test_a_region_is_resized_as_by_a_ball(by_mm: float) -> None:
    subject = ball(11.0)
    offsets = np.meshgrid(*(np.arange(-3, 4) * mm for mm in subject.spacing_zyx_mm), indexing="ij")
    structure = sum(offset**2 for offset in offsets) <= by_mm**2
    operation = ndimage.binary_dilation if by_mm > 0 else ndimage.binary_erosion
    resized_mask = resized(by_mm)(subject).mask_zyx
    np.testing.assert_array_equal(resized_mask, operation(subject.mask_zyx, structure))
    assert resized_mask.sum() != subject.mask_zyx.sum()


def test_noise_is_the_same_for_the_same_seed_and_has_its_size() -> None:
    subject = ball(9.0)
    first, again, other = (noisier(10.0, seed)(subject).image_zyx for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (other - subject.image_zyx).std() == pytest.approx(10.0, rel=0.02)
    assert (first != other).all()


def test_the_mean_of_a_uniform_organ_survives_all_but_a_region_that_leaves_it() -> None:
    subjects = [ball(9.0, 20.0), ball(10.0, 40.0), ball(11.0, 80.0)]
    rows = robustness(subjects, QUICK, standard_perturbations())
    of = {(row.tag, row.perturbation): row for row in rows}
    assert set(name for _, name in of) == {"shift", "size", "noise"}
    assert of["stat_mean", "noise"].icc > 0.99
    assert of["stat_mean", "noise"].least_concordance > 0.99
    assert of["stat_mean", "noise"].cov < 0.02
    # A shell of air around the organ.
    assert of["stat_min", "size"].cov > 0.5
    # Noise of 10 HU where there was 1.
    assert of["stat_var", "noise"].cov > 0.5
    assert ("stat_mean", "") in stable_features([row for row in rows if row.perturbation == "noise"])
    assert ("stat_min", "") not in stable_features(rows, largest_cov=0.1)


def test_a_refined_region_is_the_same_body_in_smaller_voxels() -> None:
    subject = ball(12.0, spacing=(3.0, 1.5, 1.0))
    fine = refined(subject, 5.0)
    assert fine.spacing_zyx_mm == (1.0, 0.75, 1.0)
    volumes = [one.mask_zyx.sum() * np.prod(one.spacing_zyx_mm) for one in (subject, fine)]
    assert volumes[0] == volumes[1]
    means = [one.image_zyx[one.mask_zyx].mean() for one in (subject, fine)]
    # The surface is interpolated with the air around it.
    assert -60.0 < means[1] < means[0]


@pytest.mark.parametrize("name", ["shift", "size"])
def test_a_millimetre_counts_also_where_voxels_are_wider(name: str) -> None:
    resampled = FeatureSettings.model_validate(
        {"families": ["morphology"], "resampling": {"spacing_mm": 2.0}, "margin_mm": 5.0}
    )
    subjects = [ball(11.0, spacing=(3.0, 3.0, 3.0)), ball(17.0, spacing=(3.0, 3.0, 3.0))]
    rows = robustness(subjects, resampled, {name: standard_perturbations()[name]})
    volume = next(row for row in rows if row.tag == "morph_vol_approx")
    assert volume.cov > (0.05 if name == "size" else 0.001)
    assert volume.icc < 1.0


def test_reconstructions_are_compared_with_each_other_and_not_with_the_ct() -> None:
    def brighter(subject: Subject) -> Subject:
        return Subject(subject.image_zyx + 500.0, subject.mask_zyx, subject.spacing_zyx_mm)

    subjects = [ball(9.0, 20.0), ball(10.0, 60.0)]
    apart = robustness(subjects, QUICK, {"scanner": Perturbation((brighter, brighter), beside_original=False)})
    beside = robustness(subjects, QUICK, {"scanner": Perturbation((brighter, brighter))})
    mean = [next(row for row in rows if row.tag == "stat_mean") for rows in (apart, beside)]
    assert mean[0].least_concordance == 1.0
    assert mean[1].least_concordance < 0.1


def test_what_is_not_defined_is_not_stable() -> None:
    row = FeatureStability("cm_corr", "3D, merged", "noise", float("nan"), float("nan"), float("nan"))
    assert stable_features([row]) == ()


def test_without_subjects_nothing_is_measured() -> None:
    with pytest.raises(ValueError, match="there is none"):
        robustness([], QUICK, standard_perturbations())
