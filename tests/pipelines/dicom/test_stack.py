"""Geometry of a stack from headers alone."""

from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from pipelines.dicom.stack import FaultKind, stack_fault
from tests.pipelines.made import SLICE_MM, ct_series, enhanced_ct, ramp


def moved(series: list[Dataset], index: int, x: float = 0, y: float = 0, z: float = 0) -> list[Dataset]:
    position = series[index].ImagePositionPatient
    series[index].ImagePositionPatient = [position[0] + x, position[1] + y, position[2] + z]
    return series


def tilted(series: list[Dataset]) -> list[Dataset]:
    for index in range(len(series)):
        moved(series, index, y=0.3 * index)
    return series


def with_one(series: list[Dataset], keyword: str, value: object) -> list[Dataset]:
    setattr(series[2], keyword, value)
    return series


def test_a_regular_series_is_whole_in_any_order() -> None:
    series = ct_series()
    assert stack_fault([series[i] for i in (3, 0, 4, 1, 2)]) is None


def test_one_slice_and_one_enhanced_image_are_whole() -> None:
    assert stack_fault(ct_series(ramp(slices=1))) is None
    assert stack_fault([enhanced_ct(ramp())]) is None


def test_what_has_no_slices_is_whole() -> None:
    structure_set = Dataset()
    structure_set.SOPClassUID = RTStructureSetStorage
    assert stack_fault([structure_set]) is None


def test_a_series_of_nothing_may_still_come() -> None:
    fault = stack_fault([])
    assert fault is not None
    assert (fault.kind, fault.curable) == (FaultKind.EMPTY, True)


@pytest.mark.parametrize(
    ("make", "kind", "curable", "sentence"),
    [
        (lambda s: s[:2] + s[3:], FaultKind.GAP, True, "1 slice is missing: neighbours are 3 to 6 mm apart"),
        (lambda s: moved(s, 2, z=1), FaultKind.UNEVEN, True, "The distance between slices varies from 2 to 4 mm"),
        (lambda s: moved(s, 2, z=SLICE_MM), FaultKind.DUPLICATE, False, "1 of 5 slices lie at the position"),
        (tilted, FaultKind.TILT, False, "The slices are shifted in their plane by up to 1.2 mm"),
        (
            lambda s: with_one(s, "ImageOrientationPatient", [0, 1, 0, 0, 0, 1]),
            FaultKind.ORIENTATIONS,
            False,
            "The series has slices of more than one orientation",
        ),
        (lambda s: with_one(s, "Rows", 8), FaultKind.MATRIX, False, "The series has images of 2 matrix sizes"),
        (lambda s: with_one(s, "PixelSpacing", [2, 2]), FaultKind.PIXEL_SPACING, False, "Pixel Spacing varies by 0.5"),
        (
            lambda s: with_one(s, "FrameOfReferenceUID", "1.2.3"),
            FaultKind.FRAMES_OF_REFERENCE,
            False,
            "The series has images of 2 Frames of Reference",
        ),
        (
            lambda s: with_one(s, "ImagePositionPatient", None),
            FaultKind.INVALID,
            False,
            "An image has no usable Image Position (Patient)",
        ),
        (lambda s: with_one(s, "PixelSpacing", [0, 1]), FaultKind.INVALID, False, "An image has no usable Pixel Spac"),
        (lambda s: with_one(s, "Rows", None), FaultKind.INVALID, False, "An image has no usable Rows and Columns"),
        (
            lambda s: with_one(s, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
            FaultKind.INVALID,
            False,
            "An image has no usable Image Orientation (Patient)",
        ),
    ],
)
def test_a_fault_has_a_kind_a_cure_and_a_sentence(
    make: Callable[[list[Dataset]], list[Dataset]], kind: FaultKind, curable: bool, sentence: str
) -> None:
    fault = stack_fault(make(ct_series()))
    assert fault is not None
    assert (fault.kind, fault.curable) == (kind, curable)
    assert fault.text.startswith(sentence)


def test_positions_that_were_rounded_are_still_even() -> None:
    series = ct_series(ramp(slices=40, rows=4, columns=4))
    for index, dataset in enumerate(series):
        dataset.ImagePositionPatient = [0, 0, round(1.25 * index, 1)]
    assert stack_fault(series) is None


def test_a_slice_that_is_missing_among_many_is_found() -> None:
    series = ct_series(ramp(slices=200, rows=2, columns=2))
    fault = stack_fault(series[:120] + series[121:])
    assert fault is not None
    assert fault.kind is FaultKind.GAP


def test_a_localizer_within_the_series_is_left_out() -> None:
    series = ct_series()
    scout = ct_series(ramp(slices=1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SOPInstanceUID="1.2.3")
    scout[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    assert stack_fault(series + scout) is None
    assert stack_fault(scout + scout) is None


def test_an_oblique_series_is_whole() -> None:
    cosine, sine = np.cos(0.3), np.sin(0.3)
    series = ct_series(ImageOrientationPatient=[1, 0, 0, 0, float(cosine), float(sine)])
    for index, dataset in enumerate(series):
        dataset.ImagePositionPatient = [0, float(-sine * 3 * index), float(cosine * 3 * index)]
    assert stack_fault(series) is None
