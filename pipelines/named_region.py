"""One region of a planning structure set, by the names that may stand for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.base import InputRejected
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.label_names import tg263_name
from pipelines.dicom.structure_set import RoiContours, StructureSet, read_structure_set, roi_masks


@dataclass(frozen=True)
class NamedRegion:
    """A region that was found, on the grid of the images that it is drawn on."""

    name: str
    """The name of those asked for that it stands for, never what the file calls it."""
    path: Path
    """Of the structure set."""
    structures: StructureSet
    mask_zyx: NDArray[np.bool_]
    remarks: tuple[str, ...]
    """What of the drawn region the mask does not show, one sentence each."""


def named_region(
    series: ImageSeries, structure_files: Iterable[Path], names: Sequence[str], synonyms: Mapping[str, str]
) -> NamedRegion:
    """The first of the names that a structure set of the images has.

    Parameters
    ----------
    series
        The images.
    structure_files
        Structure sets; one of another Frame of Reference counts for nothing.
    names
        TG-263 names, the one that is preferred first.
    synonyms
        TG-263 names by the names that the site uses, in lower case.

    Raises
    ------
    InputRejected
        If there is no structure set of the images or no such region in it, several go by the name, or the region has no
        voxel on the images.
    """
    read = [(path, read_structure_set(path)) for path in structure_files]
    drawn = [one for one in read if one[1].frame_of_reference_uid == series.frame_of_reference_uid]
    if not drawn:
        raise InputRejected("There is no structure set in the Frame of Reference of the planning CT")
    for name in names:
        found = [(path, one, roi) for path, one in drawn for roi in _called(one, name, synonyms)]
        if len(found) > 1:
            raise InputRejected(f"{len(found)} regions go by the name {name}, and which one counts is not known")
        if found:
            path, structures, roi = found[0]
            try:
                masks = roi_masks(structures, series, [roi.name])
            except InputRejected as error:
                raise InputRejected(str(error).replace(roi.name, name)) from error
            return NamedRegion(name, path, structures, masks.masks[roi.name], masks.remarks)
    raise InputRejected(f"The structure set has no region {' or '.join(names)}")


def _called(structures: StructureSet, name: str, synonyms: Mapping[str, str]) -> list[RoiContours]:
    """Regions of the name as it stands; where there is none, those whose name means the same."""
    literal = [roi for roi in structures.rois if roi.name == name]
    wanted = _standard(name, synonyms)
    return literal or [roi for roi in structures.rois if _standard(roi.name, synonyms) == wanted]


def _standard(name: str, synonyms: Mapping[str, str]) -> str:
    return synonyms.get(name.strip().lower()) or tg263_name(name)
