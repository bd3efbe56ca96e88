"""Find the organs in a CT with a network that was trained elsewhere, as those who trained it had it done.

The way of an image: its axes are turned to those of the training images, it is cropped, normalised and resampled, the
network sees it patch by patch, and what the network says goes all the way back before each voxel gets its class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.imported import ImportedModel, Normalisation
from models.imported_networks import METHODS, loaded_networks
from models.inference import nobody
from models.intensity import Hu
from models.segmentation import Segmentation
from models.sliding_window import Network, slid
from models.spline_resampling import new_shape, resampled
from models.weights import Card, WeightsError, load_card

_NETWORK_SHARE = 0.8
"""Part of the progress bar; the rest is the way back to the grid of the image."""
_LEAST_SD = 1e-8


@dataclass(frozen=True)
class ImportedFinder:
    """Networks that were trained elsewhere, and the card that says how they are to be asked."""

    card: Card
    model: ImportedModel
    networks: tuple[Network, ...]
    """Members of an ensemble, (1, 1, D, H, W) -> (1, 1 + organs, D, H, W)."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Names in the order of the labels, the first of which is 1."""
        return self.model.organs

    @property
    def takes_mr(self) -> bool:
        """None of them does."""
        return False

    def find(
        self,
        hu_zyx: NDArray[Any],
        spacing_zyx_mm: tuple[float, float, float],
        mr_zyx: NDArray[Any] | None = None,
        progress: Callable[[float, str], None] = nobody,
    ) -> Segmentation:
        """Organs of a CT in HU, on its grid; the same input gives the same output.

        Raises
        ------
        ValueError
            If there is an MR.
        """
        if mr_zyx is not None:
            raise ValueError("the network takes no MR")
        order, flips = self.model.turned_axes()
        volume = np.flip(hu_zyx.transpose(order), flips).astype(np.float32)
        spacing_mm = tuple(spacing_zyx_mm[axis] for axis in order)
        box = nonzero_box(volume) if self.model.crop_to_nonzero else (slice(None),) * 3
        labels = np.zeros(volume.shape, np.uint8)
        labels[box], sure = self._labelled(volume[box], spacing_mm, progress)
        back = np.flip(labels, flips).transpose(np.argsort(order))
        return Segmentation(np.ascontiguousarray(back), self.organs, dict(zip(self.organs, sure, strict=True)))

    def _labelled(
        self, volume: Hu, spacing_mm: Sequence[float], progress: Callable[[float, str], None]
    ) -> tuple[NDArray[np.uint8], list[float]]:
        """Class of each voxel of a volume with the axes of the network, and of each organ the mean probability."""
        model = self.model
        working_mm = [own if mm is None else mm for own, mm in zip(spacing_mm, model.spacing_mm, strict=True)]
        shape = new_shape(volume.shape, spacing_mm, working_mm, model.resampling)
        if model.normalised_first:
            volume = normalised_as(volume, model.normalisation)
        seen = resampled(volume, shape, spacing_mm, working_mm, model.resampling)
        if not model.normalised_first:
            seen = normalised_as(seen, model.normalisation)
        with torch.inference_mode():
            result = self._result(torch.from_numpy(np.ascontiguousarray(seen))[None], progress)

        def back(values: Hu) -> Hu:
            grid = (volume.shape[0], volume.shape[1], volume.shape[2])
            return resampled(values, grid, working_mm, spacing_mm, model.result_resampling)

        return most_likely(result.numpy(), back, model.resampled_output, lambda done: progress(done, "segmenting"))

    def _result(self, image: Tensor, progress: Callable[[float, str], None]) -> Tensor:
        """What goes back to the grid of the image: the mean over the members, (K, D, H, W)."""
        done = [0.0 for _ in self.networks]

        def one_done(number: int, part: float) -> None:
            done[number] = part
            progress(_NETWORK_SHARE * sum(done) / len(done), "segmenting")

        mean = slid(self.networks[0], image, self.model, partial(one_done, 0))
        for number, network in enumerate(self.networks[1:], 1):
            mean += slid(network, image, self.model, partial(one_done, number))
        mean /= len(self.networks)
        if len(mean) != 1 + len(self.organs):
            raise WeightsError(f"the network of {self.card.name} has {len(mean)} outputs, not 1 + {len(self.organs)}")
        wanted = self.model.resampled_output
        return mean.softmax(dim=0) if (self.model.output, wanted) == ("logits", "probabilities") else mean


def load_imported_finder(weights: str, device: str = "cpu") -> ImportedFinder:
    """Load the networks of an imported `.safetensors` file; loaded once per process, content and device.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, differ from their card, were not imported, do not fit the architecture that the card
        states, or need a package that is not installed.
    """
    card = load_card(weights)
    if card.method not in METHODS or card.imported is None:
        raise WeightsError(f"the weights {weights} are of the method {card.method}, which was not imported")
    return ImportedFinder(card, card.imported, loaded_networks(weights, card.sha256, device))


def nonzero_box(volume: NDArray[Any]) -> tuple[slice, slice, slice]:
    """Smallest box around everything that is not 0; the whole volume where all is."""
    inside = volume != 0
    if not inside.any():
        return slice(None), slice(None), slice(None)
    first, second, third = ndimage.find_objects(inside.astype(np.uint8))[0]
    return first, second, third


def normalised_as(volume: Hu, how: Normalisation) -> Hu:
    """HU as the network was trained on them, float32; same shape."""
    values = volume if how.clip_hu is None else np.clip(volume, *how.clip_hu)
    if how.scheme == "linear":
        return ((values - np.float32(how.subtract)) / np.float32(how.divide)).astype(np.float32)
    if how.scheme == "range":
        low, high = values.min(), values.max()
        return np.asarray((values - low) / max(high - low, _LEAST_SD), np.float32)
    inside = ndimage.binary_fill_holes(volume != 0) if how.inside_nonzero else np.ones(volume.shape, bool)
    part = values[inside]
    if not part.size:
        return values.astype(np.float32)
    scores = (values - part.mean()) / max(part.std(), _LEAST_SD)
    return np.where(inside, scores, values).astype(np.float32)


def most_likely(
    result: Hu, back: Callable[[Hu], Hu], kind: str, done: Callable[[float], None]
) -> tuple[NDArray[np.uint8], list[float]]:
    """Class of each voxel, and of each organ the mean probability over its voxels, NaN where it has none.

    One output (K, D, H, W) after the other is brought `back` to the grid of the image, as memory is short.
    """
    highest = back(result[0])
    labels, total = np.zeros(highest.shape, np.uint8), np.ones(highest.shape, np.float32)
    for number, output in enumerate(result[1:], 1):
        values = back(output)
        above = values > highest
        labels[above] = number
        if kind == "logits":
            # The sum of the exponentials of all of them, relative to the highest so far.
            total = np.exp(-np.abs(values - highest)) * np.where(above, total, 1.0) + np.where(above, 1.0, total)
        highest = np.maximum(values, highest)
        done(_NETWORK_SHARE + (1.0 - _NETWORK_SHARE) * (number + 1) / len(result))
    probability = 1.0 / total if kind == "logits" else highest
    counts = np.bincount(labels.ravel(), minlength=len(result))
    sums = np.bincount(labels.ravel(), probability.ravel(), len(result))
    sure = np.divide(sums, counts, out=np.full(len(result), np.nan), where=counts > 0)
    return labels, [float(value) for value in sure[1:]]
