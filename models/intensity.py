"""Between Hounsfield units and the range a network works in; and where the patient ends and the air begins."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR_HU = -1000.0
BODY_THRESHOLD_HU = -400.0
"""Between lung (about -700) and fat (about -100): the skin line lies at half height between air and fat."""

_FILLED_PLANE = ndimage.generate_binary_structure(2, 1)

Hu: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]


def normalised(hu: NDArray[Any], window_hu: tuple[float, float]) -> Hu:
    """HU clipped to the window and mapped to [-1, 1]; any shape."""
    low_hu, high_hu = window_hu
    clipped = np.clip(hu, low_hu, high_hu)
    return np.asarray((clipped - low_hu) * (2.0 / (high_hu - low_hu)) - 1.0, np.float32)


def denormalised(unit: NDArray[Any], window_hu: tuple[float, float]) -> Hu:
    """Inverse of `normalised` inside the window: [-1, 1] to HU; any shape."""
    low_hu, high_hu = window_hu
    return ((np.asarray(unit, np.float32) + 1.0) * ((high_hu - low_hu) / 2.0) + low_hu).astype(np.float32)


def written_back(hu: NDArray[Any], unit: NDArray[Any], window_hu: tuple[float, float]) -> Hu:
    """Put the result of the network, in HU, where the input lay inside the window; elsewhere keep the input.

    Air below the window and metal above it never reached the network, so it has nothing to say about them.
    """
    low_hu, high_hu = window_hu
    inside = (hu > low_hu) & (hu < high_hu)
    return np.where(inside, denormalised(np.clip(unit, -1.0, 1.0), window_hu), hu).astype(np.float32)


def body_mask(hu_zyx: NDArray[Any], threshold_hu: float = BODY_THRESHOLD_HU) -> Mask:
    """Largest connected component above the threshold, holes filled slice by slice; [slice, row, column].

    An empty mask comes back where nothing lies above the threshold.
    """
    labels, count = ndimage.label(hu_zyx > threshold_hu)
    if count == 0:
        return np.zeros(hu_zyx.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == sizes.argmax()
    # Slice by slice: the airway opens to the outside at the mouth and at the ends of the scan.
    return np.stack([ndimage.binary_fill_holes(plane, _FILLED_PLANE) for plane in largest])
