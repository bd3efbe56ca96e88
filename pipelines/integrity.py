"""Whether a derived series is about the same patient, at the same place, as its source: read from the new datasets.

What the writer meant does not count here; the datasets that would leave the node are compared with the source.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.dicom.elements import number, text
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.stack import PlaneError, fault_of, planes_of
from pipelines.dicom.volume import Volume, affine_of
from pipelines.stability import Finding, Verdict

SAME_IN_BOTH = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "FrameOfReferenceUID")
"""Elements that a derived series never changes."""


def written_hu(series: Sequence[Dataset]) -> NDArray[np.float32]:
    """HU that a reader will find in derived CT datasets; [slice, row, column]."""
    return np.stack([_hu(dataset) for dataset in series])


def integrity_findings(source: ImageSeries, series: Sequence[Dataset]) -> tuple[Finding, ...]:
    """Patient, study, Frame of Reference and grid of the new datasets against the source; any difference holds."""
    return identity_finding(source, series), _geometry(source, series)


def identity_finding(source: ImageSeries, series: Sequence[Dataset]) -> Finding:
    """Patient, study and Frame of Reference of new datasets of any kind against the source; a difference holds."""
    differing = [
        keyword
        for keyword in SAME_IN_BOTH
        if any(text(dataset, keyword) != text(source.header, keyword) for dataset in series)
    ]
    what = f"differ from the source in {', '.join(differing)}" if differing else "are those of the source"
    return _finding("identity_differences", len(differing), f"Patient, study and Frame of Reference {what}")


def _hu(dataset: Dataset) -> NDArray[np.float32]:
    stored = np.frombuffer(dataset.PixelData, dtype="<i2").reshape(dataset.Rows, dataset.Columns)
    return (stored * (number(dataset, "RescaleSlope") or 0) + (number(dataset, "RescaleIntercept") or 0)).astype("f4")


def _geometry(source: ImageSeries, series: Sequence[Dataset]) -> Finding:
    same = _has_same_grid(source.volume, series)
    what = "the voxel grid of the source" if same else "another voxel grid than the source"
    return _finding("geometry_differences", 0 if same else 1, f"The result has {what}")


def _has_same_grid(volume: Volume, series: Sequence[Dataset]) -> bool:
    try:
        planes = [plane for dataset in series for plane in planes_of(dataset)]
    except PlaneError:
        return False
    if fault_of(planes) is not None:
        return False
    shape = (len(planes), planes[0].rows, planes[0].columns)
    return volume.same_grid(Volume(np.empty(shape, dtype=np.bool_), affine_of(planes)))


def _finding(name: str, value: float, sentence: str) -> Finding:
    verdict = Verdict.HOLD if value else Verdict.RELEASE
    return Finding(name=name, value=value, unit="1", verdict=verdict, text=sentence)
