"""Organs as objects name them: TG-263 name, SNOMED CT code with its side, colour, and which of them have anything in.

References
----------
PS3.16 CID 7150 Segmentation Property Category, CID 7151 Segmentation Property Type, CID 244 Laterality
Mayo et al., Int J Radiat Oncol Biol Phys 2018, doi 10.1016/j.ijrobp.2017.12.013 (TG-263)
"""

import colorsys
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipelines.base import InputRejected
from pipelines.dicom.derived import MAX_DESCRIPTION, coded
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.structure_names import standard_name
from pipelines.provenance import Provenance

Colour: TypeAlias = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

MAX_NAME_LENGTH = 64
"""Characters of Segment Label and ROI Name (VR LO); some planning systems show only the first 16."""

_CODED: dict[str, tuple[Code, Colour]] = {
    "Brainstem": (codes.SCT.BrainStem, (255, 160, 40)),
    "SpinalCord": (codes.SCT.SpinalCord, (255, 255, 0)),
    "Parotid": (codes.SCT.ParotidGland, (70, 200, 255)),
    "Esophagus": (codes.SCT.Esophagus, (190, 110, 60)),
    "Larynx": (codes.SCT.Larynx, (90, 220, 160)),
    "Bone_Mandible": (codes.SCT.Mandible, (240, 230, 200)),
    "Prostate": (codes.SCT.Prostate, (230, 70, 70)),
    "SeminalVes": (codes.SCT.SeminalVesicle, (220, 120, 240)),
    "Bladder": (codes.SCT.Bladder, (255, 220, 90)),
    "Rectum": (codes.SCT.Rectum, (150, 90, 40)),
}
"""By TG-263 name without its side."""
_SIDES: dict[str, Code] = {"_L": codes.SCT.Left, "_R": codes.SCT.Right}


@dataclass(frozen=True)
class Organ:
    """What an object says about a region beside where it is."""

    name: str
    """TG-263 name; a name that is none of TG-263 stays as it is."""
    code: Code
    side: Code | None
    colour: Colour

    def type_code(self) -> Dataset:
        """Code item of the organ with its side as the modifier (PS3.3 C.8.20.2, C.8.8.8)."""
        item = coded(self.code)
        if self.side is not None:
            item.SegmentedPropertyTypeModifierCodeSequence = [coded(self.side)]
        return item


@dataclass(frozen=True)
class OrganObject:
    """A new object of organs, and what of the result it does not hold."""

    dataset: Dataset
    left_out: tuple[str, ...]
    """One sentence for each organ without a voxel."""


def organ_named(name: str) -> Organ:
    """The organ of a name; one that the table lacks gets the code `Organ` and a colour that its name decides.

    Raises
    ------
    ValueError
        If the name is empty, longer than MAX_NAME_LENGTH or has characters that VR LO forbids.
    """
    if not 0 < len(name.strip()) <= MAX_NAME_LENGTH or "\\" in name or not name.isprintable():
        raise ValueError(f"{name!r} can not be the name of an organ")
    tg263 = standard_name(name) or name.strip()
    side = _SIDES.get(tg263[-2:])
    known = _CODED.get(tg263[:-2] if side else tg263)
    if known is not None:
        return Organ(tg263, known[0], side, known[1])
    return Organ(tg263, codes.SCT.Organ, side, _colour_of(tg263))


def organs_with_voxels(
    source: ImageSeries, masks: Mapping[str, NDArray[np.bool_]]
) -> tuple[list[tuple[Organ, NDArray[np.bool_]]], tuple[str, ...]]:
    """The organs that have a voxel, in the order of `masks`, and a sentence for each that has none and is left out.

    Raises
    ------
    InputRejected
        If no organ has a voxel: an object without a region must not be sent.
    ValueError
        If a mask is not on the grid of `source`, or two names are the same organ.
    """
    named = [(organ_named(name), source.volume.with_array(mask).array_zyx) for name, mask in masks.items()]
    if len({organ.name for organ, _ in named}) < len(named):
        raise ValueError("two masks are of the same organ")
    found = [(organ, mask.astype(np.bool_)) for organ, mask in named if mask.any()]
    if not found:
        raise InputRejected("No organ was found in the images, so there is nothing to write")
    kept = {organ.name for organ, _ in found}
    return found, tuple(f"{organ.name} was not found" for organ, _ in named if organ.name not in kept)


def algorithm_version(origin: Provenance) -> str:
    """Version of the program and the beginning of every weights digest, in at most 64 characters (VR LO)."""
    weights = " ".join(digest[:12] for digest in origin.weights_sha256) or "none"
    return f"{origin.version}, weights {weights}"[:MAX_DESCRIPTION].rstrip()


def _colour_of(name: str) -> Colour:
    """Bright, and the same for one name on every machine."""
    hue = hashlib.sha256(name.encode()).digest()[0] / 256
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.7, 0.95))
    return red, green, blue
