"""What finds organs in a CT, whoever trained it: one way to load it and one way to ask it, whatever its method.

Arrays are [slice, row, column], slices towards the head, rows to posterior, columns to the patient's left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from models.imported_finder import load_imported_finder
from models.imported_networks import METHODS as IMPORTED_METHODS
from models.inference import nobody
from models.segmentation import Segmentation, segmented
from models.unet import METHOD as OWN_METHOD
from models.unet import Segmenter, load_segmenter
from models.weights import Card, WeightsError, load_card


class OrganFinder(Protocol):
    """Weights ready for use, and the card that says what they are good for."""

    @property
    def card(self) -> Card:
        """Of the weights."""

    @property
    def organs(self) -> tuple[str, ...]:
        """TG-263 names in the order of the labels, the first of which is 1."""

    @property
    def takes_mr(self) -> bool:
        """Whether an MR on the grid of the CT may come with it."""

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
            If there is an MR for weights that take none, or one that is not on the grid of the CT.
        """


@dataclass(frozen=True)
class OwnNetwork:
    """The network of `models.unet`."""

    model: Segmenter

    @property
    def card(self) -> Card:
        """Of the weights."""
        return self.model.card

    @property
    def organs(self) -> tuple[str, ...]:
        """TG-263 names in the order of the labels, the first of which is 1."""
        return self.model.task.organs

    @property
    def takes_mr(self) -> bool:
        """Whether an MR on the grid of the CT may come with it."""
        return self.model.task.takes_mr

    def find(
        self,
        hu_zyx: NDArray[Any],
        spacing_zyx_mm: tuple[float, float, float],
        mr_zyx: NDArray[Any] | None = None,
        progress: Callable[[float, str], None] = nobody,
    ) -> Segmentation:
        """Organs of a CT in HU, on its grid; errors as in `OrganFinder`."""
        return segmented(self.model, hu_zyx, spacing_zyx_mm, mr_zyx, progress)


def load_organ_finder(
    weights: str, device: str = "cpu", bf16: bool = False, mirror: bool = False
) -> OrganFinder:  # fmt: skip
    """Load what shipped weights (by name) or a `.safetensors` file (by path) need to find organs.

    The network is loaded once per process, content and device. With `bf16` it computes in bfloat16, with
    `mirror` it looks at the mirrored image too; one that was trained elsewhere does both as its makers did.

    Raises
    ------
    models.weights.WeightsError
        If the weights are absent, differ from their card, find no organs, or do not fit what the card states.
    """
    method = load_card(weights).method
    if method == OWN_METHOD:
        return OwnNetwork(load_segmenter(weights, device, bf16, mirror))
    if method in IMPORTED_METHODS:
        return load_imported_finder(weights, device)
    raise WeightsError(f"the weights {weights} are of the method {method}, which finds no organs")
