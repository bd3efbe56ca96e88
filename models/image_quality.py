"""What a physicist measures in an image: HU and noise of tissues, contrast to noise, cupping, noise power.

The regions are found on the truth, so they are the same for every image of the patient. Arrays are [slice, row,
column] in HU; pixels are square.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import Mask

TISSUES_HU: Mapping[str, tuple[float, float]] = {
    "fat": (-190.0, -30.0),
    "muscle": (-29.0, 150.0),
    "bone": (200.0, 1500.0),
}
"""Fat and muscle as in body composition (Aubrey et al., Acta Physiol 2014, doi 10.1111/apha.12224); `muscle` takes in
brain and glands. Bone starts above enhanced vessels and ends below metal."""

_MARGIN_MM = 4.0
_LEAST_VOXELS = 50
_PATCH_MM = 32.0
_LEAST_PATCH_PIXELS = 8
_MOST_PATCHES = 100
_TREND_TERMS = 6
_CENTRE, _PERIPHERY = 2.0 / 3.0, 1.0 / 3.0

Corner: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Regions:
    """Where to measure one patient; a tissue with less than 50 voxels is left out."""

    tissues: Mapping[str, Mask]
    """By tissue: voxels whose window of `window_pixels` lies inside that tissue."""
    window_pixels: int
    """Width of the square in a slice that noise is taken from; 9 to 12 mm, as a region placed by hand."""
    depth: NDArray[np.float64]
    """Distance from the skin in the slice, relative to the deepest point of the slice."""
    patches: Sequence[Corner]
    """Corners of the most uniform squares of soft tissue, for the noise power; empty where none is large enough."""
    patch_pixels: int
    pixel_mm: float


@dataclass(frozen=True)
class NoisePower:
    """Radial average of the noise power spectrum."""

    frequency_per_mm: NDArray[np.float64]
    power_hu2_mm2: NDArray[np.float64]
    sd_hu: float
    """Root of the integral of the spectrum: the noise inside a patch without its slow trend."""
    mean_frequency_per_mm: float
    """Of the radial average, up to the Nyquist frequency."""


def regions_of(truth_hu_zyx: NDArray[Any], body: Mask, pixel_mm: float) -> Regions:
    """Regions of fat, muscle and bone at least 4 mm (one pixel at least) away from any other tissue in the slice."""
    margin = max(1, round(_MARGIN_MM / pixel_mm))
    window = 2 * margin + 1
    whole = {name: body & (truth_hu_zyx >= low) & (truth_hu_zyx <= high) for name, (low, high) in TISSUES_HU.items()}
    eroded = {name: ndimage.binary_erosion(mask, np.ones((1, window, window), bool)) for name, mask in whole.items()}
    size = max(_LEAST_PATCH_PIXELS, round(_PATCH_MM / pixel_mm))
    return Regions(
        tissues={name: mask for name, mask in eroded.items() if mask.sum() >= _LEAST_VOXELS},
        window_pixels=window,
        depth=_relative_depth(body),
        patches=_uniform_patches(truth_hu_zyx, whole["muscle"], size),
        patch_pixels=size,
        pixel_mm=pixel_mm,
    )


def measured(image_hu_zyx: NDArray[Any], truth_hu_zyx: NDArray[Any], regions: Regions) -> dict[tuple[str, str], float]:
    """All measures of one image that its regions allow, by (name, unit); the truth only serves the cupping."""
    values: dict[tuple[str, str], float] = {}
    for tissue, region in regions.tissues.items():
        values[f"{tissue}_mean", "hu"] = float(image_hu_zyx[region].mean())
        values[f"{tissue}_sd", "hu"] = float(image_hu_zyx[region].std(ddof=1))
    if {"fat", "muscle"} <= set(regions.tissues):
        values["cnr_muscle_fat", ""] = cnr(image_hu_zyx, regions, "muscle", "fat")
        values["cnr_muscle_fat_whole", ""] = whole_cnr(image_hu_zyx, regions, "muscle", "fat")
    cupping = cupping_hu(image_hu_zyx, truth_hu_zyx, regions)
    if cupping is not None:
        values["cupping", "hu"] = cupping
    if regions.patches:
        noise = noise_power(image_hu_zyx, regions.patches, regions.patch_pixels, regions.pixel_mm)
        values["noise_sd", "hu"] = noise.sd_hu
        values["noise_mean_frequency", "per_mm"] = noise.mean_frequency_per_mm
    return values


def cnr(image_hu_zyx: NDArray[Any], regions: Regions, first: str, second: str) -> float:
    """Contrast to noise of two tissues: |mean_1 - mean_2| / sqrt((var_1 + var_2) / 2), with the noise taken locally.

    var is the mean over the region of the sample variance in a window of 9 to 12 mm, as in small regions that a
    physicist places; differences from one muscle to the next do not count as noise. Noise that is coarser than the
    window does not count either, which flatters smoothing: `whole_cnr` has no such window.

    References
    ----------
    Regions in fat, muscle and bone of MVCT: Vinas et al., Med Phys 2021, doi 10.1002/mp.14616
    """
    variance = _local_variance(image_hu_zyx, regions.window_pixels)
    noise = [float(variance[regions.tissues[tissue]].mean()) for tissue in (first, second)]
    return _contrast_to_noise(image_hu_zyx, regions, (first, second), noise)


def whole_cnr(image_hu_zyx: NDArray[Any], regions: Regions, first: str, second: str) -> float:
    """As `cnr`, with the variance over the whole region of each tissue: anatomy counts as noise."""
    noise = [float(image_hu_zyx[regions.tissues[tissue]].var(ddof=1)) for tissue in (first, second)]
    return _contrast_to_noise(image_hu_zyx, regions, (first, second), noise)


def cupping_hu(image_hu_zyx: NDArray[Any], truth_hu_zyx: NDArray[Any], regions: Regions) -> float | None:
    """Mean error of muscle in the centre minus that near the skin, HU; None where either is too small.

    Centre and periphery are the inner and the outer third of the depth below the skin of each slice. The error, not
    the HU: the tissue in the middle of a head is another than under its skin. A cup has a negative value.
    """
    muscle = regions.tissues.get("muscle")
    if muscle is None:
        return None
    centre, periphery = muscle & (regions.depth >= _CENTRE), muscle & (regions.depth <= _PERIPHERY)
    if min(centre.sum(), periphery.sum()) < _LEAST_VOXELS:
        return None
    means = [float((image_hu_zyx[part] - truth_hu_zyx[part]).mean()) for part in (centre, periphery)]
    return means[0] - means[1]


def noise_power(image_hu_zyx: NDArray[Any], corners: Sequence[Corner], size: int, pixel_mm: float) -> NoisePower:
    """Noise power spectrum in square patches: (mm^2 / n^2) mean |DFT(patch - trend)|^2, radially averaged.

    The trend is a polynomial of second order. What it takes of the noise is given back as degrees of freedom, equally
    at all frequencies, so noise that is slower than a patch is underestimated. Structures of the patient inside a patch
    count as noise.

    References
    ----------
    Samei et al., Med Phys 2019 (AAPM TG-233), doi 10.1002/mp.13763
    """
    patches = np.stack([image_hu_zyx[k, i : i + size, j : j + size] for k, i, j in corners]).astype(np.float64)
    residual = _without_trend(patches)  # (patch, row, column)
    freedom = size**2 / (size**2 - _TREND_TERMS)
    power = freedom * (pixel_mm / size) ** 2 * np.square(np.abs(np.fft.fft2(residual))).mean(axis=0)
    axis = np.fft.fftfreq(size, pixel_mm)
    step = 1.0 / (size * pixel_mm)
    rings = np.rint(np.hypot(axis[:, None], axis[None, :]) / step).astype(int).ravel()
    radial = (np.bincount(rings, power.ravel()) / np.bincount(rings))[1 : size // 2 + 1]
    frequency = step * np.arange(1, size // 2 + 1, dtype=np.float64)
    sd = float(np.sqrt(power.sum() * step**2))
    mean = float((frequency * radial).sum() / max(float(radial.sum()), 1e-12))
    return NoisePower(frequency, radial, sd, mean)


def _contrast_to_noise(
    image_hu_zyx: NDArray[Any], regions: Regions, tissues: tuple[str, str], variances: Sequence[float]
) -> float:
    means = [float(image_hu_zyx[regions.tissues[tissue]].mean()) for tissue in tissues]
    return abs(means[0] - means[1]) / float(np.sqrt(max(sum(variances) / 2.0, 1e-6)))


def _local_variance(image_hu_zyx: NDArray[Any], window: int) -> NDArray[np.float64]:
    """Sample variance in the window about every pixel of its slice."""
    image = np.asarray(image_hu_zyx, np.float64)
    mean, square = (ndimage.uniform_filter(array, (1, window, window)) for array in (image, image * image))
    return np.asarray(np.maximum(square - mean * mean, 0.0) * (window**2 / (window**2 - 1.0)))


def _relative_depth(body: Mask) -> NDArray[np.float64]:
    depth = np.stack([ndimage.distance_transform_edt(plane) for plane in np.pad(body, ((0, 0), (1, 1), (1, 1)))])
    depth = depth[:, 1:-1, 1:-1]
    return np.asarray(depth / np.maximum(depth.max(axis=(1, 2), keepdims=True), 1.0))


def _uniform_patches(truth_hu_zyx: NDArray[Any], soft: Mask, size: int) -> list[Corner]:
    """Squares, half overlapping, that lie in soft tissue; those with the least spread in the truth."""
    step = size // 2
    found = []
    for k in np.flatnonzero(soft.any(axis=(1, 2))):
        for i in range(0, soft.shape[1] - size + 1, step):
            for j in range(0, soft.shape[2] - size + 1, step):
                if soft[k, i : i + size, j : j + size].all():
                    spread = float(truth_hu_zyx[k, i : i + size, j : j + size].std())
                    found.append((spread, (int(k), i, j)))
    return [corner for _, corner in sorted(found)[:_MOST_PATCHES]]


def _without_trend(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """Patches minus their least-squares polynomial of second order; (patch, row, column)."""
    row, column = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in patches.shape[1:]), indexing="ij")
    terms = np.stack([np.ones_like(row), row, column, row * column, row**2, column**2]).reshape(_TREND_TERMS, -1)
    orthonormal, _ = np.linalg.qr(terms.T)  # (pixel, term)
    flat = patches.reshape(len(patches), -1)
    return np.asarray((flat - flat @ orthonormal @ orthonormal.T).reshape(patches.shape))
