"""A stack of slices that was reconstructed from projections, as the image series that results are written on."""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from models.intensity import AIR_HU
from pipelines.dicom.companion import decimal_strings
from pipelines.dicom.image_series import ImageSeries
from pipelines.dicom.projections import Projections
from pipelines.dicom.scan_stack import ScanStack
from pipelines.dicom.volume import Volume
from pipelines.dicom.writing import copy_elements
from pipelines.provenance import hashed_uid


def empty_series(projections: Projections, stack: ScanStack) -> ImageSeries:
    """The grid of the slices full of air, with a header for each: what the projections say of patient and equipment.

    Geometry is the one of the stack; the instances that the headers name exist nowhere.
    """
    array_zyx = np.full((len(stack), stack.grid.rows, stack.grid.columns), AIR_HU, np.float32)
    volume = Volume(array_zyx, stack.affine)
    return ImageSeries(
        modality="CT",
        volume=volume,
        padding_zyx=np.zeros(array_zyx.shape, np.bool_),
        headers=tuple(_header(projections.header, volume, index) for index in range(len(stack))),
    )


def views_of_slices(projections: Projections, stack: ScanStack) -> list[list[Dataset]]:
    """Of each slice, references to the views that measured it."""
    found: dict[int, list[Dataset]] = {}
    for turn in stack.turns:
        for number, views in zip(turn.slices, turn.views, strict=True):
            found[number] = _references([projections.sop_instance_uids[view] for view in views])
    return [found[number] for number in range(len(stack))]


def _references(sop_instance_uids: Sequence[str]) -> list[Dataset]:
    references = []
    for uid in sop_instance_uids:
        header = Dataset()
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, uid
        references.append(header)
    return references


def _header(common: Dataset, volume: Volume, index: int) -> Dataset:
    header = Dataset()
    copy_elements(common, header, tuple(element.keyword for element in common))
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.SOPInstanceUID = hashed_uid([str(common.SeriesInstanceUID), "slice", index])
    slice_mm, row_mm, column_mm = volume.spacing_zyx_mm
    header.PixelSpacing = decimal_strings((row_mm, column_mm), 6)
    header.SliceThickness = f"{slice_mm:.3f}"
    header.ImageOrientationPatient = decimal_strings(volume.image_orientation_patient, 6)
    header.ImagePositionPatient = decimal_strings(volume.points_lps(np.array([[0.0, 0.0, index]]))[0])
    return header
