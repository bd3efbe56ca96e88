"""Parametric Maps: the same work makes the same file."""

import numpy as np
import pytest
from pydicom.sr.codedict import codes

from pipelines.dicom.parametric_map import HOUNSFIELD_UNIT, Quantity, parametric_map
from pipelines.dicom.writing import file_bytes
from tests.pipelines.made import ct_series, ramp
from tests.pipelines.organs_made import ORIGIN

SPREAD = Quantity("SPREAD", "Spread", codes.DCM.StandardDeviation, HOUNSFIELD_UNIT)
EMPTY = ("StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator")


@pytest.mark.req("NODE-05")
def test_the_same_work_makes_the_same_bytes() -> None:
    images = ct_series(ContributingEquipmentSequence=[])
    for image in images:
        for keyword in EMPTY:
            setattr(image, keyword, None)
    first, second = (parametric_map(images, ramp().astype(np.float32), SPREAD, ORIGIN) for _ in range(2))
    assert file_bytes(first) == file_bytes(second)
