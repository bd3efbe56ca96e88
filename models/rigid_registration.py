"""Rigid registration of two images of one patient, with what says how far to trust it.

Mattes mutual information compares the images, so that their HU need not agree: cone-beam and megavoltage CT have
others than the planning CT. What lies around the body is taken away and the field of view of either image counts only
where it has data (`models.placed_image`). The same images give the same result, bit for bit: one thread, a fixed seed.

References
----------
Mattes et al., IEEE Trans Med Imaging 2003, doi 10.1109/TMI.2003.809072
Brock et al., AAPM TG-132, Med Phys 2017, doi 10.1002/mp.12256 (what to state about a registration)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from models.intensity import AIR_HU
from models.placed_image import PlacedImage, PreparedImage, halved, prepared
from models.rigid_motion import Matrix, carried, inverse, resampled, shift

_itk: Any = SimpleITK  # it carries no types

_VOXEL_MM = 2.5
_BINS = 32
_SEED = 20250106
_SAMPLES = 60_000
_RANGE_HU = (-1000.0, 1200.0)
_START_STEP_MM = 20.0
"""Between starts along the patient's axis: less than the capture range of the coarse search."""
_KEPT_STARTS = 3
_LEAST_OVERLAP_MM = 60.0
"""Along the patient's axis; what overlaps less is not compared."""


@dataclass(frozen=True)
class _Level:
    """One resolution of the search."""

    first_step_mm: float
    last_step_mm: float
    iterations: int


_COARSEST = _Level(8.0, 0.5, 60)
_COARSE = _Level(4.0, 0.1, 100)
_FINE = _Level(1.0, 0.005, 200)


@dataclass(frozen=True)
class RigidRegistration:
    """How one image lies on another."""

    matrix: Matrix
    """Carries points of the moving frame into the fixed one: fixed = matrix @ moving, LPS mm."""
    start: Matrix
    """The same before the search: the given start, else what lays the centres of the bodies on each other."""
    mutual_information: float
    """Mattes, in nats; larger is better, comparable between registrations of one pair of images only."""
    correlation_before: float
    """Normalised cross-correlation of HU inside both bodies at `start`; NaN where they do not meet."""
    correlation_after: float
    """The same at `matrix`."""
    fixed_body_covered: float
    """Part of the fixed image's body of which the moving image has data, 0 to 1."""
    moving_body_covered: float
    """The same the other way: how much of the moving body the fixed image's field of view shows."""
    rotation_deg: float
    """Angle about the axis of rotation, of `matrix`."""
    translation_mm: float
    """How far `matrix` carries the centre of the moving body."""
    converged: bool
    """Whether the search ended because it found nothing better, and not for want of iterations."""
    inverse_consistency_mm: float
    """How far a corner of the moving body's box comes back from where it was, at most, through this registration
    and the one in the other direction; NaN where that was not computed."""


def rigid(
    fixed: PlacedImage, moving: PlacedImage, start: Matrix | None = None, check_inverse: bool = True
) -> RigidRegistration:
    """Register the moving image to the fixed one.

    The search runs from `start`, and from bodies laid on each other at several places along the patient's axis, on
    voxels of about 10 mm; the best by mutual information go on at 5 mm, and the best of these at 2.5 mm.

    Parameters
    ----------
    fixed, moving
        CT of any kind in HU; a field of view may be truncated, HU may be off.
    start
        4 x 4, carries points of the moving frame into the fixed one, LPS mm: a registration that is known; identity
        where the images share a Frame of Reference.
    check_inverse
        Whether to register in the other direction too, which takes as long again.

    Raises
    ------
    ValueError
        If an image shows no body or too little of one, or the bodies can nowhere be laid on each other.
    """
    coarse_to_fine = [_Pair.of(halves) for halves in _resolutions(fixed, moving)]
    given = [] if start is None else [np.asarray(start, np.float64)]
    found = _search(coarse_to_fine, given)
    back = float("nan")
    if check_inverse:
        turned = [pair.turned() for pair in coarse_to_fine]
        back = _way_back_mm(coarse_to_fine[-1], found, _search(turned, [inverse(one) for one in given]))
    return _described(
        coarse_to_fine[-1], given[0] if given else _centers_on_each_other(coarse_to_fine[-1]), found, back
    )


def described(fixed: PlacedImage, moving: PlacedImage, matrix: Matrix) -> RigidRegistration:
    """The same figures for a registration that is given, without a search; it has no other direction to compare."""
    pair = _Pair.of((prepared(fixed, _VOXEL_MM), prepared(moving, _VOXEL_MM)))
    return _described(pair, matrix, _Found(matrix, pair.value_at(matrix), True), float("nan"))


@dataclass(frozen=True)
class _Found:
    matrix: Matrix
    value: float
    converged: bool


@dataclass(frozen=True)
class _Pair:
    """Two images at one resolution, for ITK and for numpy."""

    fixed: PreparedImage
    moving: PreparedImage
    images: tuple[Any, Any]
    masks: tuple[Any, Any]

    @classmethod
    def of(cls, both: tuple[PreparedImage, PreparedImage]) -> "_Pair":
        fixed, moving = both
        images = tuple(_itk_image(np.clip(one.hu_zyx, *_RANGE_HU).astype(np.float32), one.affine) for one in both)
        masks = (_itk_image(fixed.counts.astype(np.uint8), fixed.affine),
                 _itk_image(moving.seen.astype(np.uint8), moving.affine))  # fmt: skip
        return cls(fixed, moving, (images[0], images[1]), masks)

    def turned(self) -> "_Pair":
        return _Pair.of((self.moving, self.fixed))

    def value_at(self, matrix: Matrix) -> float:
        """Mattes mutual information, nats; 0 where the images do not meet."""
        method = self._method()
        method.SetInitialTransform(self._transform(matrix), inPlace=False)
        try:
            return -float(method.MetricEvaluate(*self.images))
        except RuntimeError:
            # ITK's only way to say that too few samples of one image lie in the other.
            return 0.0

    def improved(self, start: Matrix, level: _Level) -> _Found:
        """The nearest best place."""
        method = self._method()
        transform = self._transform(start)
        method.SetInitialTransform(transform, inPlace=True)
        method.SetOptimizerAsRegularStepGradientDescent(
            level.first_step_mm, level.last_step_mm, level.iterations, relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-7,
        )  # fmt: skip
        radius_mm = float(np.linalg.norm(np.ptp(self.fixed.body_corners_lps(), axis=0))) / 4.0
        method.SetOptimizerScales([radius_mm**2] * 3 + [1.0] * 3)
        try:
            method.Execute(*self.images)
        except RuntimeError:
            return _Found(start, 0.0, False)  # As in `value_at`.
        matrix = inverse(_matrix(transform))
        ended = method.GetOptimizerIteration() < level.iterations
        return _Found(matrix, self.value_at(matrix), ended)

    def _method(self) -> Any:
        method = _itk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetNumberOfWorkUnits(1)
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetMetricFixedMask(self.masks[0])
        method.SetMetricMovingMask(self.masks[1])
        # Samples off the voxel centres: on them mutual information prefers grids that lie on each other.
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / max(1, int(self.fixed.counts.sum()))), _SEED)
        method.SetInterpolator(_itk.sitkLinear)
        return method

    def _transform(self, matrix: Matrix) -> Any:
        """ITK's transform, from fixed to moving points, about the centre of the fixed body."""
        to_moving = np.linalg.inv(matrix)
        center = self.fixed.body_center_lps()
        transform = _itk.Euler3DTransform()
        transform.SetCenter(center.tolist())
        transform.SetMatrix(to_moving[:3, :3].ravel().tolist(), 1e-4)
        transform.SetTranslation((to_moving[:3, 3] + to_moving[:3, :3] @ center - center).tolist())
        return transform


def _resolutions(fixed: PlacedImage, moving: PlacedImage) -> list[tuple[PreparedImage, PreparedImage]]:
    fine = (prepared(fixed, _VOXEL_MM), prepared(moving, _VOXEL_MM))
    coarse = (halved(fine[0]), halved(fine[1]))
    return [(halved(coarse[0]), halved(coarse[1])), coarse, fine]


def _centers_on_each_other(pair: _Pair) -> Matrix:
    return shift(pair.fixed.body_center_lps() - pair.moving.body_center_lps())


def _search(coarse_to_fine: list[_Pair], given: list[Matrix]) -> _Found:
    coarsest, coarse, fine = coarse_to_fine
    # Every start is improved before one is chosen: where it stands by itself says little about where it leads.
    tried = _best(coarsest.improved(start, _COARSEST) for start in (*given, *_starts_along_axis(coarsest)))
    again = _best(coarse.improved(found.matrix, _COARSE) for found in tried[:_KEPT_STARTS])
    if not again:
        raise ValueError("the bodies can nowhere be laid on each other")
    return fine.improved(again[0].matrix, _FINE)


def _best(found: Iterable[_Found]) -> list[_Found]:
    """Those that compare anything, the best first."""
    return sorted((one for one in found if one.value > 0.0), key=lambda one: one.value, reverse=True)


def _starts_along_axis(pair: _Pair) -> list[Matrix]:
    """Shifts that lay the middle lines of the bodies on each other, wherever enough of both would overlap."""
    fixed_lines, moving_lines = _middle_line(pair.fixed), _middle_line(pair.moving)
    (low, high), (moving_low, moving_high) = ((line[0, 2], line[-1, 2]) for line in (fixed_lines, moving_lines))
    least = min(_LEAST_OVERLAP_MM, high - low, moving_high - moving_low)
    middle = (low + high - moving_low - moving_high) / 2.0
    reach = max(0.0, (high - low + moving_high - moving_low) / 2.0 - least)
    steps = int(reach // _START_STEP_MM)
    found = []
    for up_mm in middle + _START_STEP_MM * np.arange(-steps, steps + 1):
        overlap = (max(low, moving_low + up_mm), min(high, moving_high + up_mm))
        by_fixed = _mean_between(fixed_lines, *overlap)
        by_moving = _mean_between(moving_lines, overlap[0] - up_mm, overlap[1] - up_mm)
        found.append(shift(np.array([*(by_fixed - by_moving)[:2], up_mm])))
    return found


def _middle_line(image: PreparedImage) -> NDArray[np.float64]:
    """Centre of the body in every slice that shows it, (n, 3) in LPS mm, from the feet to the head."""
    indices = np.array([
        (*np.argwhere(plane).mean(axis=0)[::-1], index) for index, plane in enumerate(image.body) if plane.any()
    ])  # fmt: skip
    points = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
    return np.asarray(points[np.argsort(points[:, 2], kind="stable")])


def _mean_between(line: NDArray[np.float64], low_mm: float, high_mm: float) -> NDArray[np.float64]:
    inside = line[(line[:, 2] >= low_mm) & (line[:, 2] <= high_mm)]
    return np.asarray((inside if len(inside) else line).mean(axis=0))


def _way_back_mm(pair: _Pair, found: _Found, back: _Found) -> float:
    corners = pair.moving.body_corners_lps()
    return float(np.linalg.norm(carried(corners, back.matrix @ found.matrix) - corners, axis=1).max())


def _described(pair: _Pair, start: Matrix, found: _Found, inverse_consistency_mm: float) -> RigidRegistration:
    matrix = found.matrix
    center = pair.moving.body_center_lps()
    cosine = (np.trace(matrix[:3, :3]) - 1.0) / 2.0
    return RigidRegistration(
        matrix=matrix,
        start=start,
        mutual_information=found.value,
        correlation_before=_correlation(pair, start),
        correlation_after=_correlation(pair, matrix),
        fixed_body_covered=_covered(pair.fixed, pair.moving, matrix),
        moving_body_covered=_covered(pair.moving, pair.fixed, inverse(matrix)),
        rotation_deg=float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))),
        translation_mm=float(np.linalg.norm(carried(center[None], matrix)[0] - center)),
        converged=found.converged,
        inverse_consistency_mm=inverse_consistency_mm,
    )


def _correlation(pair: _Pair, matrix: Matrix) -> float:
    """Pearson's, of HU inside both bodies."""
    fixed = pair.fixed
    hu = _laid_on(fixed, pair.moving, pair.moving.hu_zyx, matrix, AIR_HU)
    both = fixed.body & (_laid_on(fixed, pair.moving, pair.moving.body, matrix, 0.0) > 0.5)
    one, other = (np.clip(values[both], *_RANGE_HU).astype(np.float64) for values in (fixed.hu_zyx, hu))
    if len(one) < 2 or one.std() == 0.0 or other.std() == 0.0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _covered(of: PreparedImage, by: PreparedImage, by_to_of: Matrix) -> float:
    return float((_laid_on(of, by, by.seen, by_to_of, 0.0) > 0.5)[of.body].mean())


def _laid_on(
    grid: PreparedImage, image: PreparedImage, array_zyx: NDArray[Any], matrix: Matrix, outside: float
) -> NDArray[np.float32]:
    return resampled(array_zyx, image.affine, grid.hu_zyx.shape, grid.affine, matrix, outside)


def _matrix(transform: Any) -> Matrix:
    matrix = np.eye(4)
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    center = np.array(transform.GetCenter())
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.array(transform.GetTranslation()) + center - rotation @ center
    return matrix


def _itk_image(array_zyx: NDArray[Any], affine: Matrix) -> Any:
    image = _itk.GetImageFromArray(np.ascontiguousarray(array_zyx))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
