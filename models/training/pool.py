"""Image pool: discriminators see converted images of past updates too, so that they do not forget.

References
----------
Shrivastava et al., CVPR 2017, arXiv 1612.07828
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Fakes: TypeAlias = tuple[Tensor, Tensor]
"""(x_fake, y_fake), each (B, S, H, W)."""


class ImagePool:
    """Keeps up to `images` converted images of each domain."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._kept: list[list[Tensor]] = [[], []]

    def exchanged(self, fakes: Fakes, rng: np.random.Generator) -> Fakes:
        """Each image either passes or, one time in two, changes place with one of the pool."""
        x, y = (
            torch.stack([self._one(kept, image, rng) for image in batch])
            for kept, batch in zip(self._kept, fakes, strict=True)
        )
        return x, y

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Content, for a checkpoint."""
        return {f"{prefix}.{n}": torch.stack(kept).float() for n, kept in enumerate(self._kept) if kept}

    def restore(self, prefix: str, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Inverse of `tensors`."""
        for number in range(2):
            if (content := tensors.get(f"{prefix}.{number}")) is not None:
                self._kept[number] = list(content.to(device).unbind())

    def _one(self, kept: list[Tensor], image: Tensor, rng: np.random.Generator) -> Tensor:
        if len(kept) < self._images:
            kept.append(image)
            return image
        if rng.random() < 0.5:
            return image
        place = int(rng.integers(len(kept)))
        old, kept[place] = kept[place], image
        return old
