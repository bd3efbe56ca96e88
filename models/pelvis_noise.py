"""What the scanners add to a made-up pelvis: noise, metal streaks and texture in CT, coil shading and noise in MR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.implicit_shapes import Coordinates, Field, Point
from models.intensity import AIR_HU, Hu, Mask

_SOFT_HU = (-160.0, 120.0)
_TISSUES_HU = ((-160.0, -60.0), (-20.0, 120.0))
"""Fat and muscle."""
_LOCAL_MEAN_MM = 5.0
_LEFT_NOISE = 0.6
"""SD of the synthetic noise that stays where real texture is laid, relative to elsewhere."""
_LARGEST_RESIDUAL_HU = 40.0
_STREAK_DECAY_MM = 55.0
_HIGHEST_HU = 3071.0
"""12 bits above -1024."""


@dataclass(frozen=True)
class TissuePatch:
    """A piece of soft tissue of a real CT; [slice, row, column]."""

    hu_zyx: Hu
    spacing_zyx_mm: Point


def random_field(
    shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point, grain_mm: float, rng: np.random.Generator
) -> Field:
    """Smooth noise of SD 1 and mean 0; `grain_mm` is the SD of its Gaussian kernel."""
    white = rng.standard_normal(shape_zyx, np.float32)
    smooth = ndimage.gaussian_filter(white, [grain_mm / mm for mm in spacing_zyx_mm], mode="wrap", truncate=3.0)
    smooth -= smooth.mean()
    return np.asarray(smooth / max(float(smooth.std()), 1e-6), np.float32)


def ct_noise(
    shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point, sd_hu: float, grain_mm: float, rng: np.random.Generator
) -> Field:
    """Noise of a reconstructed CT: in the plane without its lowest frequencies, smoothed above, nearly white along z.

    Filtered backprojection makes noise whose power rises from zero frequency and falls with the kernel; the difference
    of two Gaussians does the same.
    """
    white = rng.standard_normal(shape_zyx, np.float32)
    in_plane = [max(0.4, grain_mm / mm) for mm in spacing_zyx_mm[1:]]
    fine = ndimage.gaussian_filter(white, [0.3, *in_plane], mode="wrap", truncate=3.0)
    broad = ndimage.gaussian_filter(fine, [0.0, *(2.5 * sd for sd in in_plane)], mode="wrap", truncate=2.5)
    noise = fine - 0.8 * broad
    return np.asarray(noise * (sd_hu / max(float(noise.std()), 1e-6)), np.float32)


def real_texture(
    patch: TissuePatch, shape_zyx: tuple[int, int, int], spacing_zyx_mm: Point, rng: np.random.Generator
) -> Field:
    """The patch less its own local mean, on another grid, flipped, and tiled in mirror images.

    0 where the patch has neither fat nor muscle, and along the borders of the two, which would be seen as ghosts.
    """
    residual = _residual(patch)
    zoom = [have / want for have, want in zip(patch.spacing_zyx_mm, spacing_zyx_mm, strict=True)]
    resized = ndimage.zoom(residual, zoom, order=1)
    for axis in range(3):
        if rng.random() < 0.5:
            resized = np.flip(resized, axis)
    starts = [int(rng.integers(n)) for n in resized.shape]
    picked = [_mirrored_indices(start, n, m) for start, n, m in zip(starts, shape_zyx, resized.shape, strict=True)]
    return np.asarray(resized[np.ix_(*picked)], np.float32)


def _residual(patch: TissuePatch) -> Field:
    """HU of each tissue from the mean of the same tissue nearby."""
    hu, sd = np.asarray(patch.hu_zyx, np.float32), [_LOCAL_MEAN_MM / mm for mm in patch.spacing_zyx_mm]
    residual = np.zeros(hu.shape, np.float32)
    for low_hu, high_hu in _TISSUES_HU:
        tissue = ndimage.binary_erosion((hu > low_hu) & (hu < high_hu), border_value=1)
        weight = ndimage.gaussian_filter(tissue.astype(np.float32), sd)
        mean = ndimage.gaussian_filter(np.where(tissue, hu, 0.0).astype(np.float32), sd) / np.maximum(weight, 1e-3)
        residual = np.where(tissue, (hu - mean).clip(-_LARGEST_RESIDUAL_HU, _LARGEST_RESIDUAL_HU), residual)
    return np.asarray(residual, np.float32)


def with_ct_noise(hu: Hu, noise: Field, texture: Field | None) -> Hu:
    """Noise everywhere, less of it where fat and muscle have a texture of their own; within 12 bits above -1024."""
    if texture is not None:
        is_tissue = (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1]) & (texture != 0.0)
        noise = np.where(is_tissue, np.float32(_LEFT_NOISE) * noise + texture, noise)
    return np.asarray(np.clip(hu + noise, AIR_HU - 24.0, _HIGHEST_HU), np.float32)


def metal_streaks(at: Coordinates, centres_mm: Sequence[tuple[float, float]], rng: np.random.Generator) -> Field:
    """HU to be added: an analytic pattern, not a reconstruction of hardened projections.

    From each hip dark and bright rays go out, as a sum of sines of the angle; they fade with the distance. Along the
    line through the hips lies a dark band, deepest between two of them. All of it fades above and below the metal.
    """
    z, y, x = at
    streaks = np.zeros(z.shape, np.float32)
    along = np.exp(-np.maximum(np.maximum(z - 22, -160 - z), 0) / 4.0)
    for middle_y, middle_x in centres_mm:
        angle = np.arctan2(y - np.float32(middle_y), x - np.float32(middle_x))
        distance = np.hypot(y - np.float32(middle_y), x - np.float32(middle_x))
        rays = np.zeros(z.shape, np.float32)
        for turns in (3, 7, 12, 19):
            phase, height = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.3, 1.0)
            rays += np.float32(height) * np.sin(turns * angle + np.float32(phase) + z * np.float32(0.02))
        streaks += np.float32(rng.uniform(60.0, 140.0)) * rays * np.exp(-distance / np.float32(_STREAK_DECAY_MM))
        band = np.exp(-(((y - np.float32(middle_y)) / 11.0) ** 2)) * np.exp(-distance / 90.0)
        streaks -= np.float32(rng.uniform(120.0, 260.0)) * band
    return np.asarray(streaks * along, np.float32)


def mr_image(signal: Hu, body: Mask, spacing_zyx_mm: Point, rng: np.random.Generator) -> Hu:
    """The signal under the smooth shading of a coil, with Rician noise."""
    shading = np.exp(np.float32(rng.uniform(0.05, 0.25)) * random_field_low(signal.shape, spacing_zyx_mm, rng))
    sd = np.float32(rng.uniform(12.0, 35.0))
    real = np.where(body, signal * shading, 0.0) + sd * rng.standard_normal(signal.shape, np.float32)
    imaginary = sd * rng.standard_normal(signal.shape, np.float32)
    return np.asarray(np.hypot(real, imaginary), np.float32)


def random_field_low(shape_zyx: tuple[int, ...], spacing_zyx_mm: Point, rng: np.random.Generator) -> Field:
    """A field of a few waves over the image, of SD about 1."""
    axes = [(np.arange(n, dtype=np.float32) * mm) for n, mm in zip(shape_zyx, spacing_zyx_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    total = np.zeros(shape_zyx, np.float32)
    for axis in (z, y, x):
        for _ in range(2):
            turns = np.float32(2 * np.pi / rng.uniform(250.0, 600.0))
            total += np.sin(axis * turns + np.float32(rng.uniform(0.0, 2 * np.pi)))
    return np.asarray(total / np.float32(np.sqrt(3.0)), np.float32)


def _mirrored_indices(start: int, count: int, size: int) -> NDArray[np.intp]:
    """`count` indices that run to the end, back, and so on."""
    position = (start + np.arange(count)) % (2 * size)
    return np.asarray(np.minimum(position, 2 * size - 1 - position), np.intp)
