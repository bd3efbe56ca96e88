"""Objects of organs as other programs read them: nothing of what writes or reads them here has a part in it."""

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom import Dataset, dcmread


def segments(path: Path, source: Sequence[Dataset]) -> dict[str, NDArray[np.bool_]]:
    """As another library reads a Segmentation: by Segment Label, slices in the order of the source."""
    read = highdicom.seg.segread(path)
    uids = [one.SOPInstanceUID for one in source]
    pixels = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    labels = [read.get_segment_description(number).segment_label for number in read.segment_numbers]
    return {label: pixels[..., index].astype(np.bool_) for index, label in enumerate(labels)}


def contours(path: Path) -> dict[str, list[tuple[str, NDArray[np.float64]]]]:
    """As the bytes have it: by ROI Name, of every contour the image that it names and its points in LPS mm."""
    dataset = dcmread(path)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    return {
        names[item.ReferencedROINumber]: [
            (one.ContourImageSequence[0].ReferencedSOPInstanceUID, np.array(one.ContourData, float).reshape(-1, 3))
            for one in item.ContourSequence
        ]
        for item in dataset.ROIContourSequence
    }


def regions(path: Path, source: Sequence[Dataset]) -> dict[str, NDArray[np.bool_]]:
    """Voxels whose centre lies within the contours, by the point-in-polygon test of a plotting library."""
    return {name: region(drawn, source) for name, drawn in contours(path).items()}


def region(drawn: list[tuple[str, NDArray[np.float64]]], source: Sequence[Dataset]) -> NDArray[np.bool_]:
    rows, columns = source[0].Rows, source[0].Columns
    centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    place = {one.SOPInstanceUID: index for index, one in enumerate(source)}
    mask = np.zeros((len(source), rows, columns), np.bool_)
    for uid, points in drawn:
        polygon = Polygon(in_plane(points, source[place[uid]]))
        mask[place[uid]] ^= polygon.contains_points(centres).reshape(rows, columns)
    return mask


def in_plane(points_lps: NDArray[np.float64], image: Dataset) -> NDArray[np.float64]:
    """Column and row of points; they have to lie in the plane of the image."""
    orientation = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    offsets = points_lps - np.array(image.ImagePositionPatient, float)
    assert np.abs(offsets @ np.cross(*orientation)).max() < 1e-3
    return np.asarray(offsets @ orientation.T / np.array(image.PixelSpacing, float)[::-1])


def polygon_mm2(points_lps: NDArray[np.float64]) -> float:
    """Area of a closed polygon in space: half the length of the sum of its cross products."""
    return float(np.linalg.norm(np.cross(points_lps, np.roll(points_lps, -1, axis=0)).sum(axis=0)) / 2)
