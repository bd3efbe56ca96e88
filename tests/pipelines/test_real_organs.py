"""Contours that people drew, through the objects and back, where this machine has them (RTNODE_DATA)."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.structure_set import masks, read_structure_set
from pipelines.dicom.structure_set_writing import organ_structure_set
from pipelines.dicom.volume import Volume
from tests.pipelines.conftest import dciodvfy_errors
from tests.pipelines.made import ct_slice
from tests.pipelines.organs_made import ORIGIN, written

TG263 = {"RightParotid": "Parotid_R", "LeftParotid": "Parotid_L", "Mandible": "Bone_Mandible"}
"""By the names of OpenKBP, where the two differ."""


def openkbp(folder: Path, patient: str) -> tuple[ImageSeries, dict[str, NDArray[np.bool_]]]:
    """A patient of OpenKBP as a series, and the organs that are drawn on it; slices from the feet to the head."""
    bits = json.loads((folder / "index.json").read_text())["struct_bits"]
    with np.load(folder / f"{patient}.npz") as arrays:
        struct = np.ascontiguousarray(arrays["struct"].transpose(2, 0, 1)[::-1])
        column_mm, row_mm, slice_mm = (float(side) for side in arrays["voxel_mm"])
    organs = {TG263.get(name, name): (struct >> bit & 1) == 1 for name, bit in bits.items() if "PTV" not in name}
    affine = np.diag([column_mm, row_mm, slice_mm, 1.0])
    affine[:3, 3] = -200.5, -180.25, 33.3
    headers = []
    for index in range(len(struct)):
        header = ct_slice(np.zeros((2, 2), dtype=np.int16), index)
        header.Rows, header.Columns = struct.shape[1:]
        header.PixelSpacing, header.SliceThickness = [row_mm, column_mm], slice_mm
        header.ImagePositionPatient = [-200.5, -180.25, 33.3 + slice_mm * index]
        headers.append(header)
    values = np.zeros(struct.shape, dtype=np.float32)
    return ImageSeries("CT", Volume(values, affine), np.zeros(struct.shape, dtype=np.bool_), tuple(headers)), organs


@pytest.mark.parametrize("patient", ["pt_1", "pt_2", "pt_201"])
def test_drawn_organs_come_back_from_both_objects(
    real_data: Callable[[str], Path], tmp_path: Path, patient: str
) -> None:
    series, organs = openkbp(real_data("openkbp"), patient)
    drawn = {name: mask for name, mask in organs.items() if mask.any()}
    made = [write(series, organs, ORIGIN, "Organs") for write in (segmentation, organ_structure_set)]
    paths = [written(one.dataset, tmp_path) for one in made]
    assert [error for path in paths for error in dciodvfy_errors(path)] == []
    for found in (read_segmentation(paths[0], series).masks, masks(read_structure_set(paths[1]), series)):
        assert list(found) == list(drawn)
        assert all(np.array_equal(found[name], drawn[name]) for name in drawn)
    assert all(one.left_out == tuple(f"{name} was not found" for name in organs if name not in drawn) for one in made)


def test_a_drawn_tumour_comes_back_on_its_real_ct(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = next(real_data("sts_dicom").glob("*/dicom/STS_002/CT"))
    series = read_image_series(sorted((folder / "image").iterdir()))
    (tumour,) = masks(read_structure_set(next((folder / "mask").iterdir())), series).values()
    paths = [
        written(write(series, {"Tumour": tumour}, ORIGIN, "Organs").dataset, tmp_path)
        for write in (segmentation, organ_structure_set)
    ]
    assert [error for path in paths for error in dciodvfy_errors(path)] == []
    assert np.array_equal(read_segmentation(paths[0], series).masks["Tumour"], tumour)
    assert np.array_equal(masks(read_structure_set(paths[1]), series)["Tumour"], tumour)
    voxel_mm3 = float(np.prod(series.volume.spacing_zyx_mm))
    assert volume_mm3(paths[1], series.volume.spacing_zyx_mm[0]) == pytest.approx(tumour.sum() * voxel_mm3, rel=0.02)


def volume_mm3(structure_set: Path, slice_mm: float) -> float:
    """What a planning system states: area within the contours times the distance of the slices."""
    total = 0.0
    for contour in dcmread(structure_set).ROIContourSequence[0].ContourSequence:
        x, y = np.array(contour.ContourData, dtype=float).reshape(-1, 3)[:, :2].T
        total += abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2 * slice_mm
    return total
