"""How far an image lies from those that a network has learnt from, in the network's own features.

The features are those of the deepest layer of the encoder, averaged over the body: one vector for an image. The
distance is Mahalanobis' to the training images, with a covariance that is shrunk, as there are fewer images than
features. Its numbers lie in a `.domain` file beside the weights, which is used only if its SHA-256 is the one that the
card states.

References
----------
Lee et al., NeurIPS 2018, arXiv 1807.03888 (Mahalanobis distance of features); Ledoit and Wolf, J Multivariate Anal
2004, doi 10.1016/S0047-259X(03)00096-4 (shrinkage)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from models.intensity import Mask, normalised
from models.receptive_field import Box, box_of_needed
from models.weights import WeightsError

Vector = NDArray[np.float32]

_SLICES = 8
_LEAST_BODY = 0.02
_STRIDE = 4
"""Of the encoder: two halvings."""
_REACH_PIXELS = 40
"""Further than the encoder looks."""


@dataclass(frozen=True)
class FeatureDomain:
    """Where the training images lie among the features."""

    mean: Vector
    """(features,)"""
    precision: NDArray[np.float32]
    """(features, features), the inverse of the shrunk covariance."""

    def distance(self, features: Vector) -> float:
        """Mahalanobis', over the root of the number of features: about 1 for a training image."""
        departure = features.astype(np.float64) - self.mean
        return float(np.sqrt(max(float(departure @ self.precision @ departure), 0.0) / len(departure)))


def fitted_domain(features: Sequence[Vector]) -> FeatureDomain:
    """The domain of training images.

    Raises
    ------
    ValueError
        If there are fewer than three.
    """
    if len(features) < 3:
        raise ValueError(f"{len(features)} images make no domain")
    # Brings scikit-learn along, which a worker that only looks at images does without.
    from sklearn.covariance import LedoitWolf

    whole = LedoitWolf().fit(np.stack(features).astype(np.float64))
    return FeatureDomain(whole.location_.astype(np.float32), whole.precision_.astype(np.float32))


def left_out_distances(features: Sequence[Vector]) -> NDArray[np.float64]:
    """Distance of each training image to the domain of the others."""
    others = [[*features[:number], *features[number + 1 :]] for number in range(len(features))]
    return np.array([fitted_domain(rest).distance(one) for one, rest in zip(features, others, strict=True)])


def encoder_features(
    encoder: nn.Module, slices: int, window_hu: tuple[float, float], hu_zyx: NDArray[Any], body: Mask
) -> Vector:
    """Deepest features of the encoder of an enhancement, mean over the body of some slices; (features,).

    Parameters
    ----------
    encoder
        (B, S, H, W) in [-1, 1] -> features at several scales, the deepest last.
    slices
        S, neighbouring slices that it sees at a time.
    """
    shown = np.flatnonzero(body.mean(axis=(1, 2)) > _LEAST_BODY)
    if not len(shown):
        shown = np.arange(len(hu_zyx))
    # Not the ends: what they show depends on where the scan was begun.
    chosen = np.unique(shown[np.linspace(0, len(shown) - 1, _SLICES + 2).round().astype(int)[1:-1]])
    total, weight = 0.0, 0.0
    for index in chosen:
        around = np.clip(np.arange(slices) + index - slices // 2, 0, len(hu_zyx) - 1)
        rows, columns = _around_body(body[index])
        unit = torch.from_numpy(normalised(hu_zyx[around][:, rows, columns], window_hu))[None]
        with torch.inference_mode():
            deepest = encoder(unit)[-1][0].float().numpy()
        inside = (
            body[index, rows, columns].reshape(deepest.shape[1], _STRIDE, deepest.shape[2], _STRIDE).mean(axis=(1, 3))
        )
        total, weight = total + (deepest * inside).sum(axis=(1, 2)), weight + float(inside.sum())
    return np.asarray(total / max(weight, 1e-6), np.float32)


def _around_body(plane: Mask) -> Box:
    """What the encoder has to see of a slice [row, column] for its features in the body; multiples of its stride."""
    whole = tuple(slice(0, size // _STRIDE * _STRIDE) for size in plane.shape)
    if not plane.any():
        return whole[0], whole[1]
    rows, columns = box_of_needed(plane, _REACH_PIXELS, _STRIDE)
    return slice(rows.start, min(rows.stop, whole[0].stop)), slice(columns.start, min(columns.stop, whole[1].stop))


def write_domain(path: Path, domain: FeatureDomain) -> str:
    """Write the numbers; returns their SHA-256."""
    content = save({"mean": domain.mean, "precision": np.ascontiguousarray(domain.precision)})
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_domain(path: Path, sha256: str) -> FeatureDomain:
    """Read what `write_domain` wrote.

    Raises
    ------
    WeightsError
        If the file is absent, is not the one with this SHA-256, or has other numbers in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the training domain {path} can not be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"the training domain {path} is not the one that the card describes")
    try:
        numbers = load(content)
        return FeatureDomain(numbers["mean"], numbers["precision"])
    except (SafetensorError, KeyError) as error:
        raise WeightsError(f"the training domain {path} has not the numbers of one") from error
