"""What a training step sees: crops of sparse images of some patients and of planning CT of others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.intensity import Hu, Mask, normalised
from models.training.pairs import SimulatedPair, useful_slices
from models.training.subsets import nested_slices
from models.training.volumes import TrainingDataError


@dataclass(frozen=True)
class TrainingImage:
    """One image of one domain; [slice, row, column], HU."""

    patient_id: str
    hu_zyx: Hu
    body: Mask
    truth_hu_zyx: Hu | None = None
    """Of a sparse image: the planning CT on the same grid, where there is one."""
    noise_zyx: Hu | None = None
    """Of a planning CT: noise of the scanner of the sparse images at these pixels, SD 1; None: white."""
    slices: Sequence[int] | None = None
    """Indices of the slices to draw; None: all that show enough of the body."""

    def drawn_slices(self) -> list[int]:
        """Indices of the slices to draw."""
        return [int(index) for index in (useful_slices(self.body) if self.slices is None else self.slices)]


@dataclass(frozen=True)
class Batch:
    """Crops in [-1, 1], each (B, S, crop, crop): S neighbouring slices."""

    x: Tensor
    """Sparse images."""
    y: Tensor
    """Planning CT of other patients."""
    noise: Tensor
    """SD 1, with the texture of the sparse images."""
    truth: Tensor | None
    """Planning CT of the patients and places of x; None where some image has none."""


@dataclass(frozen=True, order=True)
class _Slice:
    """Where one slice is: number of the image, index in its volume."""

    image: int
    index: int


class TrainingSlices:
    """Draws crops: x of the sparse image of one patient, y of the planning CT of another.

    Crops are centred on body pixels and mirrored left to right at random; never rotated or resized, as that would
    smooth the noise that the network has to learn. Every slice is equally likely.
    """

    def __init__(
        self,
        sparse: Sequence[TrainingImage],
        planning: Sequence[TrainingImage],
        window_hu: tuple[float, float],
        crop_pixels: int,
        neighbours: int = 1,
    ) -> None:
        """Take the images with their slices; `neighbours` is S.

        Raises
        ------
        TrainingDataError
            If a domain has no slice, a patient had to be paired with itself, or a slice is smaller than the crop.
        """
        self._crop = Crop(crop_pixels, neighbours, window_hu)
        self._sparse = _Drawing(sparse)
        self._planning = _Drawing(planning)
        # Of whom the only planning CT is, there is no planning CT of another patient to draw.
        if len(self._planning.patients()) < 2 and self._planning.patients() & self._sparse.patients():
            raise TrainingDataError("unpaired training needs planning CT slices of at least two patients")
        if min(min(image.body.shape[1:]) for image in (*sparse, *planning)) < crop_pixels:
            raise TrainingDataError(f"a slice is smaller than the crop of {crop_pixels} pixels")

    @classmethod
    def of_pairs(
        cls,
        pairs: Sequence[SimulatedPair],
        window_hu: tuple[float, float],
        crop_pixels: int,
        neighbours: int = 1,
        chosen: Sequence[Sequence[int]] | None = None,
    ) -> "TrainingSlices":
        """Both domains of simulated pairs, with the slices `chosen` of each pair; errors as in the constructor."""
        indices = [None] * len(pairs) if chosen is None else chosen
        sparse, planning = (
            [replace(image, slices=slices) for image, slices in zip(images, indices, strict=True)]
            for images in (sparse_images(pairs), planning_images(pairs))
        )
        return cls(sparse, planning, window_hu, crop_pixels, neighbours)

    def __len__(self) -> int:
        """Number of slices of the smaller domain."""
        return min(len(self._sparse.slices), len(self._planning.slices))

    @property
    def patients(self) -> int:
        """Number of patients whose sparse images are drawn from."""
        return len(self._sparse.patients())

    @property
    def has_truth(self) -> bool:
        """Whether the truth of every sparse image is known."""
        return all(image.truth_hu_zyx is not None for image in self._sparse.images)

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw x, y of other patients, noise for y, and the truth of x."""
        crops = [self._unpaired_crops(rng) for _ in range(size)]
        x, truth, y, noise = (torch.from_numpy(np.stack(column)) for column in zip(*crops, strict=True))
        return Batch(x, y, noise, truth if self.has_truth else None)

    def _unpaired_crops(self, rng: np.random.Generator) -> tuple[Hu, Hu, Hu, Hu]:
        first = self._sparse.drawn(rng)
        sparse = self._sparse.images[first.image]
        second = self._planning.drawn(rng)
        while self._planning.images[second.image].patient_id == sparse.patient_id:
            second = self._planning.drawn(rng)
        planning = self._planning.images[second.image]
        x, truth = self._crop.of((sparse.hu_zyx, sparse.truth_hu_zyx), sparse.body, first.index, rng)
        (y,) = self._crop.of((planning.hu_zyx,), planning.body, second.index, rng)
        return x, truth, y, self._noise(planning.noise_zyx, rng)

    def _noise(self, noise_zyx: Hu | None, rng: np.random.Generator) -> Hu:
        """Crops from the middle, where the noise is even, turned by a random number of right angles."""
        pixels = self._crop.pixels
        shape = (self._crop.neighbours, pixels, pixels)
        if noise_zyx is None:
            return rng.standard_normal(shape).astype(np.float32)
        planes = noise_zyx[rng.integers(len(noise_zyx), size=self._crop.neighbours)]
        corner = [int(rng.integers(n // 8, max(7 * n // 8 - pixels, n // 8) + 1)) for n in planes.shape[1:]]
        row, column = (min(at, n - pixels) for at, n in zip(corner, planes.shape[1:], strict=True))
        cropped = planes[:, row : row + pixels, column : column + pixels]
        # Neighbours of one plane would have the same noise: each is turned differently.
        return np.stack([np.rot90(plane, int(rng.integers(4))) for plane in cropped])


@dataclass(frozen=True)
class Crop:
    """Size of what is cut out of images, and how its values are mapped."""

    pixels: int
    """Rows, and columns."""
    neighbours: int
    """Slices, the drawn one in the middle."""
    window_hu: tuple[float, float]

    def of(
        self, volumes_zyx: Sequence[Hu | None], body: Mask, index: int, rng: np.random.Generator
    ) -> list[Hu]:  # fmt: skip
        """The same crop of every volume about a body pixel of slice `index`, in [-1, 1], mirrored half of the time.

        Of a volume that is None, that of the first.
        """
        inside = np.flatnonzero(body[index])
        centre = np.unravel_index(int(rng.choice(inside)), body.shape[1:])
        corner = [
            int(np.clip(int(at) - self.pixels // 2, 0, max(n - self.pixels, 0)))
            for at, n in zip(centre, body.shape[1:], strict=True)
        ]
        around = np.clip(np.arange(self.neighbours) + index - self.neighbours // 2, 0, len(body) - 1)
        rows, columns = (slice(at, at + self.pixels) for at in corner)
        step = -1 if rng.random() < 0.5 else 1
        filled = (volumes_zyx[0] if volume is None else volume for volume in volumes_zyx)
        return [
            normalised(np.asarray(volume)[around][:, rows, columns][..., ::step], self.window_hu) for volume in filled
        ]


class _Drawing:
    """The slices of one domain, each as likely as any other."""

    def __init__(self, images: Sequence[TrainingImage]) -> None:
        self.images = images
        self.slices = [_Slice(number, at) for number, image in enumerate(images) for at in image.drawn_slices()]
        if not self.slices:
            raise TrainingDataError("no training slice shows a body")

    def patients(self) -> set[str]:
        return {self.images[item.image].patient_id for item in self.slices}

    def drawn(self, rng: np.random.Generator) -> _Slice:
        return self.slices[int(rng.integers(len(self.slices)))]


def sparse_images(pairs: Sequence[SimulatedPair]) -> list[TrainingImage]:
    """The simulated images of pairs, with their truth."""
    return [TrainingImage(p.volume.patient_id, p.sparse_hu_zyx, p.body, p.volume.hu_zyx) for p in pairs]


def planning_images(pairs: Sequence[SimulatedPair]) -> list[TrainingImage]:
    """The planning CT of simulated pairs, with the noise of the scanner that was simulated."""
    return [TrainingImage(p.volume.patient_id, p.volume.hu_zyx, p.body, noise_zyx=p.noise_zyx) for p in pairs]


def limited(images: Sequence[TrainingImage], limit: int | None, seed: int) -> list[TrainingImage]:
    """The images with `limit` of their slices, nested (`models.training.subsets`) in the order of `seed`; None: all.

    Raises
    ------
    TrainingDataError
        If there are fewer slices than the limit, or slices of one patient only.
    """
    if limit is None:
        return list(images)
    by_patient: dict[str, list[_Slice]] = {}
    for number, image in enumerate(images):
        found = [_Slice(number, index) for index in image.drawn_slices()]
        by_patient.setdefault(image.patient_id, []).extend(found)
    chosen = nested_slices(by_patient, [limit], seed)[limit]
    return [
        replace(image, slices=sorted(item.index for item in chosen if item.image == number))
        for number, image in enumerate(images)
    ]
