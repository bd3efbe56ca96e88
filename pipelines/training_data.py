"""Training volumes for the models: `.npz` files as they are, DICOM CT series read and turned to the canonical axes."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from models.intensity import AIR_HU
from models.training.volumes import Split, TrainingDataError, TrainingVolume, read_volumes
from pipelines.base import InputRejected, PipelineError, Progress, no_progress
from pipelines.dicom.elements import text
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.reading import read_instance
from pipelines.dicom.volume import axis_order

HELD_OUT_EVERY = 10
"""Of so many patients one is kept for validation and one for the test; of three at least one each."""

log = logging.getLogger(__name__)


def training_volumes(data: Path, progress: Progress = no_progress) -> list[TrainingVolume]:
    """All training volumes below a folder: `.npz` files if there are any, else CT series in DICOM files.

    DICOM patients are named by a digest and split by it, so that the same patient always falls into the same part.
    A series that the reader refuses is left out and logged.

    Raises
    ------
    PipelineError
        If there is no volume.
    """
    if any(data.rglob("*.npz")):
        try:
            return read_volumes(data)
        except TrainingDataError as error:
            raise PipelineError(str(error)) from error
    volumes = list(_dicom_volumes(data, progress))
    if not volumes:
        raise PipelineError(f"{data} has neither a .npz volume nor a CT series")
    return _with_splits(volumes)


def _dicom_volumes(data: Path, progress: Progress) -> Iterator[TrainingVolume]:
    series = _series_below(data)
    for number, (uid, paths) in enumerate(sorted(series.items()), start=1):
        try:
            yield _volume(read_image_series(paths))
        except InputRejected as error:
            log.warning("series left out", extra={"series_instance_uid": uid, "reason": str(error)})
        progress(number / len(series), "reading")


def _series_below(data: Path) -> dict[str, list[Path]]:
    series: dict[str, list[Path]] = {}
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        try:
            header = read_instance(path, ("SOPClassUID", "SeriesInstanceUID", "Modality"))
        except InputRejected:
            continue
        if text(header, "Modality") == "CT":
            series.setdefault(text(header, "SeriesInstanceUID"), []).append(path)
    return series


def _volume(series: ImageSeries) -> TrainingVolume:
    order = axis_order(series.volume)
    spacing = [series.volume.spacing_zyx_mm[axis] for axis in order.axes]
    return TrainingVolume(
        patient_id=_digest(series),
        split=None,
        hu_zyx=order.canonical(series.filled_zyx(AIR_HU)).clip(AIR_HU),
        spacing_zyx_mm=(spacing[0], spacing[1], spacing[2]),
    )


def _digest(series: ImageSeries) -> str:
    """A name that leads back to no patient without the data themselves."""
    identity = f"{text(series.header, 'IssuerOfPatientID')}\\{text(series.header, 'PatientID')}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _with_splits(volumes: list[TrainingVolume]) -> list[TrainingVolume]:
    patients = sorted({volume.patient_id for volume in volumes})
    held_out = max(1, len(patients) // HELD_OUT_EVERY) if len(patients) >= 3 else 0
    splits: dict[str, Split] = dict.fromkeys(patients, "train")
    splits.update(dict.fromkeys(patients[:held_out], "validation"))
    splits.update(dict.fromkeys(patients[held_out : 2 * held_out], "test"))
    return [replace(volume, split=splits[volume.patient_id]) for volume in volumes]
