"""Training volumes with their organs: `.npz` files, and CT series with the structure sets that were drawn on them.

Which images, patients and splits there are is up to `pipelines.training_data`; here the organs come to them.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RTStructureSetStorage

from models.training.organ_volumes import OrganVolume, organ_volume, with_organs
from models.training.volumes import TrainingDataError, TrainingVolume
from pipelines.base import InputRejected, PipelineError, Progress, no_progress
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.reading import read_instance
from pipelines.dicom.structure_names import standard_name
from pipelines.dicom.structure_set import StructureSet, read_structure_set, roi_masks
from pipelines.dicom.volume import axis_order
from pipelines.training_data import dicom_files, refuse_result, training_volumes

log = logging.getLogger(__name__)


def organ_volumes(data: Path, organs: Sequence[str], progress: Progress = no_progress) -> list[OrganVolume]:
    """All planning CT at or below a folder in which one of the organs was drawn.

    Of several structure sets of one CT, the one with most of the organs counts; what this program made counts for none.
    Regions go by their TG-263 names, upper and lower case alike; those of a site go by them in a collection, where
    they were renamed. What has no organs is left out and logged.

    Raises
    ------
    PipelineError
        If there is no folder, no volume, or none with organs.
    """
    volumes = [volume for volume in training_volumes(data, progress) if volume.domain == "planning_ct"]
    drawn = _Drawn(data, organs)
    found = [one for volume in volumes if (one := drawn.on(volume)) is not None]
    if not found:
        raise PipelineError(f"{data} has no planning CT in which {' or '.join(organs)} was drawn")
    return found


class _Drawn:
    """What was drawn in the images below a folder."""

    def __init__(self, data: Path, organs: Sequence[str]) -> None:
        self._organs = organs
        self._structures, self._images = _objects_below(data)

    def on(self, volume: TrainingVolume) -> OrganVolume | None:
        """The volume with its organs; None where it has none, which is logged."""
        try:
            found = self._read(volume)
        except (InputRejected, TrainingDataError) as error:
            log.warning("volume left out", extra={"source": volume.source, "reason": str(error)})
            return None
        return found if any(found.drawn) else None

    def _read(self, volume: TrainingVolume) -> OrganVolume:
        if volume.source.endswith(".npz"):
            return with_organs(volume, Path(volume.source), self._organs)
        structures = max(self._structures.get(volume.source, ()), key=self._known, default=None)
        if structures is None:
            raise TrainingDataError("no structure set was drawn on it")
        series = read_image_series(self._images[volume.source])
        return organ_volume(volume, _masks(structures, series, self._organs), self._organs)

    def _known(self, structures: StructureSet) -> int:
        return len(_regions(structures, self._organs))


def _objects_below(data: Path) -> tuple[Mapping[str, Sequence[StructureSet]], Mapping[str, Sequence[Path]]]:
    """Structure sets by the Series Instance UID that they are drawn on, and the files of every CT series."""
    structures: dict[str, list[StructureSet]] = {}
    images: dict[str, dict[str, Path]] = {}
    for path in dicom_files(data):
        try:
            header = read_instance(path, ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality"))
            if text(header, "SOPClassUID") == RTStructureSetStorage:
                refuse_result(path)
                read = read_structure_set(path)
                structures.setdefault(read.series_instance_uid, []).append(read)
        except InputRejected:
            continue
        if text(header, "Modality") == "CT":
            images.setdefault(text(header, "SeriesInstanceUID"), {}).setdefault(text(header, "SOPInstanceUID"), path)
    return structures, {uid: list(files.values()) for uid, files in images.items()}


def _masks(
    structures: StructureSet, series: ImageSeries, organs: Iterable[str]
) -> dict[str, NDArray[np.bool_]]:  # fmt: skip
    """By name, in the orientation that models are trained in."""
    order = axis_order(series.volume)
    found = roi_masks(structures, series, _regions(structures, organs))
    return {organ: order.canonical(mask) for organ, mask in found.masks.items()}


def _regions(structures: StructureSet, organs: Iterable[str]) -> list[str]:
    """Those of the organs that the structure set has with a contour."""
    names = {standard_name(roi.name) or roi.name for roi in structures.rois if roi.contours_lps}
    return [organ for organ in organs if (standard_name(organ) or organ) in names]
