"""Pictures for people: the organs of a DICOM Segmentation on the images that they were found in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.intensity import AIR_HU
from models.organ_figure import OrganRow, draw_organs
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.segmentation_reading import read_segmentation
from pipelines.dicom.volume import axis_order
from pipelines.pictures import Picture


def organs_on_images(images: Sequence[Path], segmentation: Path, png: Path, title: str) -> Picture:
    """Draw the contours of all segments in three planes into a PNG file.

    Raises
    ------
    InputRejected
        If the images can not be read as one volume, or the segments do not lie on them.
    """
    source = read_image_series(images)
    masks = read_segmentation(segmentation, source).masks
    labels = np.zeros(source.volume.array_zyx.shape, np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        labels[mask] = number
    order = axis_order(source.volume)
    hu = order.canonical(source.filled_zyx(AIR_HU))
    row = OrganRow("", hu, order.spacing_zyx_mm(source.volume), order.canonical(labels))
    draw_organs([row], tuple(masks), png, title)
    return Picture(png, title, None)
