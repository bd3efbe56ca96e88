"""A course by arithmetic: a box of a body with a box of a tumour, whose density on every day is told."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.feature_settings import FeatureSettings
from models.ibsi_names import Family
from pipelines.course_features import CourseExtraction, CourseSources
from pipelines.dicom.acquired import Acquisition, Scanner, acquired_ct_series
from pipelines.dicom.companion import NewInstance
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.structure_set_writing import Roi, structure_set
from pipelines.dicom.volume import Volume
from pipelines.provenance import hashed_uid
from tests.dicom_files import write

SHAPE = (12, 32, 32)
TUMOUR = (slice(3, 9), slice(12, 20), slice(12, 20))
FIRST_DAY = date(2025, 1, 20)
SCANNER = Scanner("Maker", "Model", "STATION", 120, "B30", "Made")
EXTRACTION = CourseExtraction(
    registration="given",
    features={"original": FeatureSettings(families=(Family.STATISTICS,), margin_mm=5.0)},
)


def image(
    folder: Path, what: str, day: date, tumour_hu: float, patient_id: str = "MADE-1", origin_mm: float = 0.0
) -> list[Path]:
    """A series whose tumour is a checkerboard of 2 HU about its mean."""
    hu = np.full(SHAPE, -1000.0, np.float32)
    hu[:, 4:28, 4:28] = 0.0
    z, y, x = np.indices(SHAPE)[:, TUMOUR[0], TUMOUR[1], TUMOUR[2]]
    hu[TUMOUR] = tumour_hu + 2.0 * (-1.0) ** (x + y + z)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = origin_mm
    acquisition = Acquisition(
        scanner=SCANNER,
        patient={"PatientName": "Made^Up", "PatientID": patient_id, "PatientBirthDate": None, "PatientSex": None},
        study_instance_uid=hashed_uid(["study", what]),
        series_instance_uid=hashed_uid(["series", what]),
        frame_of_reference_uid=hashed_uid(["frame", patient_id]),
        series_number=1,
        date=day.strftime("%Y%m%d"),
        time="101500",
    )
    return write(acquired_ct_series(Volume(hu, affine), acquisition), folder / what)


def regions(folder: Path, planning: Sequence[Path], **masks: NDArray[np.bool_]) -> Path:
    """A structure set with these regions on the planning CT."""
    new = NewInstance(hashed_uid(["structures", *masks]), hashed_uid(["regions", *masks]), 2, "Made", "Maker")
    rois = [Roi(name, mask, "GTV") for name, mask in masks.items()]
    return write([structure_set(read_image_series(planning), rois, "MADE", new)], folder / "structures")[0]


def tumour(part: tuple[slice, slice, slice] = TUMOUR) -> NDArray[np.bool_]:
    """A mask."""
    mask = np.zeros(SHAPE, np.bool_)
    mask[part] = True
    return mask


def course(folder: Path, *tumour_hu: float, roi: str = "GTVp", **changes: Any) -> CourseSources:
    """Planning CT, structure set and weekly images; `changes` replace what `CourseSources` has."""
    planning = image(folder, "planning", FIRST_DAY - timedelta(days=14), 40.0)
    days = [
        image(folder, f"day {number}", FIRST_DAY + timedelta(days=7 * number), hu)
        for number, hu in enumerate(tumour_hu)
    ]
    sources = {
        "planning_ct": [planning],
        "structure_sets": [regions(folder, planning, **{roi: tumour()})],
        "cbct": days,
    }
    return CourseSources(**{**sources, **changes})
