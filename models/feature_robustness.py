"""How stable each feature is when nothing about the patient changes: other contours, noise, another reconstruction.

A feature that does not survive these can not tell a change of the tumour from one of the scanner.

References
----------
Zwanenburg et al., Sci Rep 2019, doi 10.1038/s41598-018-36938-4 (perturbations of image and region)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.agreement import coefficient_of_variation, concordance, icc_3_1
from models.feature_settings import FeatureSettings
from models.radiomics import features
from models.simulate import CbctSettings, simulated_cbct

FINE_MM = 1.0
_ROOM_MM = 10.0
"""Beyond the margin of the settings, for a region that moves."""


@dataclass(frozen=True)
class Subject:
    """An image with a region; HU where the settings of the features say so."""

    image_zyx: NDArray[Any]
    mask_zyx: NDArray[np.bool_]
    spacing_zyx_mm: tuple[float, float, float]


Variant = Callable[[Subject], Subject]
"""Makes of a subject the same one, seen otherwise."""


@dataclass(frozen=True)
class Perturbation:
    """Variants that belong together."""

    variants: tuple[Variant, ...]
    beside_original: bool = True
    """Whether the subject as it is counts as the first measurement; else the first variant is the first."""
    moves_region: bool = False
    """Whether the variants move the surface of the region by less than a voxel may be wide."""


@dataclass(frozen=True)
class FeatureStability:
    """What one perturbation does to one feature."""

    tag: str
    aggregation: str
    perturbation: str
    icc: float
    """ICC(3,1) over subjects and variants; nan with a single subject or where the feature is not defined."""
    least_concordance: float
    """Of any other measurement with the first, Lin's coefficient; nan as above."""
    cov: float
    """Coefficient of variation within a subject, median over subjects; a fraction."""


def shifted(shift_zyx_mm: tuple[float, float, float]) -> Variant:
    """The region elsewhere, as another alignment would have it."""

    def vary(subject: Subject) -> Subject:
        voxels = [mm / size for mm, size in zip(shift_zyx_mm, subject.spacing_zyx_mm, strict=True)]
        to_region, to_outside = _distances_mm(subject)
        # A distance can be moved by a part of a voxel, which a mask can not.
        return replace(subject, mask_zyx=ndimage.shift(to_region - to_outside, voxels, order=1, mode="nearest") < 0)

    return vary


def resized(by_mm: float) -> Variant:
    """The region dilated with a ball of that radius, eroded where it is negative."""

    def vary(subject: Subject) -> Subject:
        to_region, to_outside = _distances_mm(subject)
        return replace(subject, mask_zyx=to_region <= by_mm if by_mm >= 0 else to_outside > -by_mm)

    return vary


def noisier(sd: float, seed: int) -> Variant:
    """White noise on top, in the unit of the image."""

    def vary(subject: Subject) -> Subject:
        noise = np.random.default_rng(seed).normal(0.0, sd, subject.image_zyx.shape)
        return replace(subject, image_zyx=subject.image_zyx + noise)

    return vary


def cone_beam(settings: CbctSettings, seed: int = 0) -> Variant:
    """A simulated cone-beam CT of the image, which has to be a CT."""

    def vary(subject: Subject) -> Subject:
        rng = np.random.default_rng(seed)
        seen = simulated_cbct(subject.image_zyx, subject.spacing_zyx_mm, settings, rng)
        return replace(subject, image_zyx=seen.hu_zyx)

    return vary


def standard_perturbations(
    shift_mm: float = 1.0, size_mm: float = 1.0, noise_sd: float = 10.0
) -> dict[str, Perturbation]:
    """Shifts along each axis both ways, a larger and a smaller region, three draws of noise."""
    shifts = [
        shifted((way * along_z, way * along_y, way * along_x))
        for along_z, along_y, along_x in np.identity(3) * shift_mm
        for way in (-1.0, 1.0)
    ]
    return {
        "shift": Perturbation(tuple(shifts), moves_region=True),
        "size": Perturbation((resized(-size_mm), resized(size_mm)), moves_region=True),
        "noise": Perturbation(tuple(noisier(noise_sd, seed) for seed in range(3))),
    }


def reconstructions(settings: Sequence[CbctSettings]) -> Perturbation:
    """The same patient by several cone-beam scanners or reconstructions, the first being the usual one."""
    return Perturbation(tuple(cone_beam(one) for one in settings), beside_original=False)


def robustness(
    subjects: Sequence[Subject], settings: FeatureSettings, perturbations: Mapping[str, Perturbation]
) -> tuple[FeatureStability, ...]:
    """One row for each feature and perturbation.

    Where the settings resample, what moves the region is done on a grid of `FINE_MM`: within the voxels of a scan a
    shift by a part of one would change nothing. Without resampling it may indeed change nothing.

    Raises
    ------
    ValueError
        If there is no subject.
    FeatureError
        If a region has no features, such as a small one that was made smaller.
    """
    if not subjects:
        raise ValueError("the stability of features is measured on subjects, and there is none")
    rows: list[FeatureStability] = []
    for name, perturbation in perturbations.items():
        measured = [_measured(subject, settings, perturbation) for subject in subjects]
        for tag, aggregation in measured[0][0]:
            values = np.array([[one[tag, aggregation] for one in of_subject] for of_subject in measured])
            rows.append(_row(tag, aggregation, name, values))
    return tuple(rows)


def stable_features(
    rows: Sequence[FeatureStability], least_icc: float = 0.75, largest_cov: float | None = None
) -> tuple[tuple[str, str], ...]:
    """Tag and aggregation of the features that every perturbation leaves alone.

    A feature whose measure is not defined is not stable. The default is the limit of good reliability of Koo and Li,
    J Chiropr Med 2016, doi 10.1016/j.jcm.2016.02.012.
    """
    unstable = {
        (row.tag, row.aggregation)
        for row in rows
        if not row.icc >= least_icc or (largest_cov is not None and not row.cov <= largest_cov)
    }
    return tuple(
        dict.fromkeys((row.tag, row.aggregation) for row in rows if (row.tag, row.aggregation) not in unstable)
    )


def refined(subject: Subject, margin_mm: float) -> Subject:
    """The region with a margin, its voxels divided into equal ones of at most `FINE_MM`; the region is the same."""
    spacing = subject.spacing_zyx_mm
    box = tuple(
        slice(max(0, part.start - reach), part.stop + reach)
        for part, reach in zip(
            ndimage.find_objects(subject.mask_zyx.astype(np.int8))[0],
            (int(np.ceil(margin_mm / mm)) + 1 for mm in spacing),
            strict=True,
        )
    )
    image, mask = subject.image_zyx[box].astype(np.float64), subject.mask_zyx[box]
    parts = np.ceil(np.round(np.array(spacing) / FINE_MM, 6)).astype(int)
    shape = tuple(int(n) for n in parts * mask.shape)
    fine = ndimage.affine_transform(image, 1.0 / parts, 0.5 / parts - 0.5, shape, order=1, mode="nearest")
    for axis, count in enumerate(parts):
        mask = np.repeat(mask, count, axis)
    slice_mm, row_mm, column_mm = (float(mm / count) for mm, count in zip(spacing, parts, strict=True))
    return Subject(np.asarray(fine), mask, (slice_mm, row_mm, column_mm))


def _measured(
    subject: Subject, settings: FeatureSettings, perturbation: Perturbation
) -> list[dict[tuple[str, str], float]]:  # fmt: skip
    if perturbation.moves_region and settings.resampling is not None:
        subject = refined(subject, settings.margin_mm + _ROOM_MM)
    seen = [subject] if perturbation.beside_original else []
    seen += [vary(subject) for vary in perturbation.variants]
    return [_values(one, settings) for one in seen]


def _distances_mm(subject: Subject) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From each voxel to the nearest of the region, and to the nearest outside; 0 for one that is it."""
    # A region that touches the border ends there.
    padded = np.pad(subject.mask_zyx, 1)
    to_region, to_outside = (
        ndimage.distance_transform_edt(where, sampling=subject.spacing_zyx_mm)[1:-1, 1:-1, 1:-1]
        for where in (~padded, padded)
    )
    return to_region, to_outside


def _values(subject: Subject, settings: FeatureSettings) -> dict[tuple[str, str], float]:
    found = features(subject.image_zyx, subject.mask_zyx, subject.spacing_zyx_mm, settings)
    return {(one.tag, one.aggregation): one.value for one in found}


def _row(tag: str, aggregation: str, perturbation: str, values: NDArray[np.float64]) -> FeatureStability:
    concordances = [concordance(values[:, 0], values[:, other]) for other in range(1, values.shape[1])]
    return FeatureStability(
        tag=tag,
        aggregation=aggregation,
        perturbation=perturbation,
        icc=icc_3_1(values),
        # Of min and nan the order would decide.
        least_concordance=float(np.min(concordances)) if concordances else float("nan"),
        cov=coefficient_of_variation(values),
    )
