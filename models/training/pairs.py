"""The two unpaired domains: simulated MVCT slices and planning CT slices, drawn from different patients."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.intensity import Hu, Mask, body_mask, normalised
from models.simulate import MvctSettings, mvct_geometry, noise_texture, simulated_mvct
from models.training.volumes import TrainingDataError, TrainingVolume

_LEAST_BODY_FRACTION = 0.02
"""Slices with less body than this (the ends of the scan) teach nothing."""

_NOISE_SLICES = 4


@dataclass(frozen=True)
class SimulatedPair:
    """A planning CT and the MVCT simulated from it; same grid, [slice, row, column], HU."""

    volume: TrainingVolume
    mvct_hu_zyx: Hu
    body: Mask
    noise_zyx: Hu
    """Noise of the same scanner in a uniform object, SD 1; a few slices."""

    def useful_slices(self) -> NDArray[np.intp]:
        """Indices of the slices that show enough of the body."""
        return np.flatnonzero(self.body.mean(axis=(1, 2)) > _LEAST_BODY_FRACTION)


def simulated_pair(volume: TrainingVolume, noise_sd_hu: tuple[float, float], seed: int) -> SimulatedPair:
    """Simulate the MVCT of one patient; noise between the limits, the same for the same patient and seed."""
    rng = np.random.default_rng([seed, zlib.crc32(volume.patient_id.encode())])
    settings = MvctSettings(noise_sd_hu=float(rng.uniform(*noise_sd_hu)))
    mvct = simulated_mvct(volume.hu_zyx, volume.spacing_zyx_mm, settings, rng)
    geometry = mvct_geometry(volume.hu_zyx, volume.spacing_zyx_mm, settings.views)
    noise = noise_texture(geometry, settings.kernel_fwhm_mm, _NOISE_SLICES, rng)
    return SimulatedPair(volume, mvct, body_mask(volume.hu_zyx), (noise / noise.std()).astype(np.float32))


def simulated_pairs(
    volumes: Sequence[TrainingVolume],
    noise_sd_hu: tuple[float, float],
    seed: int,
    progress: Callable[[float, str], None],
) -> list[SimulatedPair]:
    """Simulate the MVCT of every patient."""
    pairs = []
    # By geometry: the projection matrix of the last one is kept.
    for number, volume in enumerate(sorted(volumes, key=lambda v: (v.hu_zyx.shape[1:], v.spacing_zyx_mm[1:]))):
        pairs.append(simulated_pair(volume, noise_sd_hu, seed))
        progress((number + 1) / len(volumes), "simulating")
    return pairs


@dataclass(frozen=True)
class _Slice:
    """Where one slice is: number of the pair, index in its volume."""

    pair: int
    index: int


class UnpairedSlices:
    """Draws crops: x of the simulated MVCT of one patient, y of the planning CT of another.

    Crops are centred on body pixels and mirrored left to right at random; never rotated or resized, as that would
    smooth the noise that the network has to learn. Every pixel of the training set is equally likely, so finer
    images count for more than coarser ones.
    """

    def __init__(
        self, pairs: Sequence[SimulatedPair], window_hu: tuple[float, float], crop: int, limit: int | None
    ) -> None:
        self._pairs = pairs
        self._window_hu = window_hu
        self._crop = crop
        self._slices = _limited(
            [[_Slice(n, int(i)) for i in pair.useful_slices()] for n, pair in enumerate(pairs)], limit
        )
        if len({item.pair for item in self._slices}) < 2:
            raise TrainingDataError("unpaired training needs slices of at least two patients")
        if min(min(pair.body.shape[1:]) for pair in pairs) < crop:
            raise TrainingDataError(f"a slice is smaller than the crop of {crop} pixels")
        areas = np.array([pairs[item.pair].body[item.index].size for item in self._slices], float)
        self._likelihood = areas / areas.sum()

    def __len__(self) -> int:
        return len(self._slices)

    @property
    def patients(self) -> int:
        """Number of patients the slices come from."""
        return len({item.pair for item in self._slices})

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw x and y in [-1, 1], and noise of SD 1 with the texture of MVCT; each (B, 1, crop, crop)."""
        crops = [self._unpaired_crops(rng) for _ in range(size)]
        x, y, noise = (torch.from_numpy(np.stack(column)[:, None]) for column in zip(*crops, strict=True))
        return x, y, noise

    def _unpaired_crops(self, rng: np.random.Generator) -> tuple[Hu, Hu, Hu]:
        first = self._drawn(rng)
        second = self._drawn(rng)
        while second.pair == first.pair:
            second = self._drawn(rng)
        x = self._cropped(self._pairs[first.pair].mvct_hu_zyx, first, rng)
        y = self._cropped(self._pairs[second.pair].volume.hu_zyx, second, rng)
        return x, y, self._noise(self._pairs[second.pair].noise_zyx, rng)

    def _noise(self, noise_zyx: Hu, rng: np.random.Generator) -> Hu:
        """A crop from the middle, where the noise is even, turned by a random number of right angles."""
        plane = noise_zyx[int(rng.integers(len(noise_zyx)))]
        corner = [int(rng.integers(n // 8, max(7 * n // 8 - self._crop, n // 8) + 1)) for n in plane.shape]
        row, column = (min(at, n - self._crop) for at, n in zip(corner, plane.shape, strict=True))
        return np.rot90(plane[row : row + self._crop, column : column + self._crop], int(rng.integers(4)))

    def _drawn(self, rng: np.random.Generator) -> _Slice:
        return self._slices[int(rng.choice(len(self._slices), p=self._likelihood))]

    def _cropped(self, hu_zyx: Hu, where: _Slice, rng: np.random.Generator) -> Hu:
        inside = np.flatnonzero(self._pairs[where.pair].body[where.index])
        centre = np.unravel_index(int(rng.choice(inside)), hu_zyx.shape[1:])
        corner = [
            int(np.clip(int(at) - self._crop // 2, 0, max(n - self._crop, 0)))
            for at, n in zip(centre, hu_zyx.shape[1:], strict=True)
        ]
        crop = hu_zyx[where.index, corner[0] : corner[0] + self._crop, corner[1] : corner[1] + self._crop]
        mirrored = crop[:, ::-1] if rng.random() < 0.5 else crop
        return normalised(mirrored, self._window_hu)


def _limited(by_patient: Sequence[Sequence[_Slice]], limit: int | None) -> list[_Slice]:
    """All slices, or `limit` of them from as few patients as hold them, two at least."""
    everything = [item for slices in by_patient for item in slices]
    if limit is None or limit >= len(everything):
        return everything
    average = max(1, len(everything) // max(len(by_patient), 1))
    patients = max(2, -(-limit // average))
    shares = [limit // patients + (number < limit % patients) for number in range(patients)]
    return [
        slices[int(i)]
        for slices, share in zip(by_patient, shares, strict=False)
        for i in np.linspace(0, len(slices) - 1, min(share, len(slices))).round()
    ]
