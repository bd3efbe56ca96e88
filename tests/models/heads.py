"""Made-up heads for the tests, small enough for seconds and painted once."""

from functools import cache

import numpy as np

from models.atlas_registration import AtlasOnPatient, atlas_on_patient
from models.head_anatomy import HeadAnatomy
from models.head_phantom import HeadPhantom, HeadScanner, head_phantom
from models.placed_image import PlacedImage

SHAPE, SPACING = (34, 112, 112), (5.0, 2.0, 2.0)


@cache
def head(seed: int = 1, oedema: float = 0.1) -> HeadPhantom:
    """A person with noise."""
    random = np.random.default_rng(seed)
    anatomy = HeadAnatomy.drawn(random, oedema)
    return head_phantom(SHAPE, SPACING, anatomy, HeadScanner(noise_sd_hu=3.0), random)


def placed(phantom: HeadPhantom) -> PlacedImage:
    """Somewhere in the scanner's frame."""
    affine = np.diag([*phantom.spacing_zyx_mm[::-1], 1.0])
    affine[:3, 3] = (12.0, -230.0, 410.0)
    return PlacedImage(phantom.hu_zyx, affine)


@cache
def laid(seed: int = 1, oedema: float = 0.1) -> AtlasOnPatient:
    """The atlas on that person."""
    return atlas_on_patient(placed(head(seed, oedema)))
