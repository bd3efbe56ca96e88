"""A quantity on the grid of a CT series as a Parametric Map: numbers with their unit that no system takes for a CT.

References
----------
PS3.3 A.75 Parametric Map IOD
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.content import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from pipelines.dicom.companion import acquisition_date
from pipelines.dicom.derived import MAX_DESCRIPTION, marked_description, settle_laterality
from pipelines.dicom.writing import put
from pipelines.provenance import PRODUCT, Provenance

HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_NO_DATE = ("19000101", "000000")


@dataclass(frozen=True)
class Quantity:
    """What the numbers are."""

    label: str
    """At most 16 characters, upper case (VR CS)."""
    description: str
    definition: Code
    unit: Code


def parametric_map(
    images: Sequence[Dataset], values_zyx: NDArray[np.float32], quantity: Quantity, origin: Provenance
) -> Dataset:
    """Values on the grid of CT datasets, as they were written; the same arguments make the same dataset.

    Raises
    ------
    ValueError
        If there is not a plane for each image.
    """
    if len(values_zyx) != len(images):
        raise ValueError(f"{len(values_zyx)} planes for {len(images)} images")
    least, most = float(values_zyx.min()), float(values_zyx.max())
    mapping = RealWorldValueMapping(
        lut_label=quantity.label,
        lut_explanation=quantity.description,
        unit=quantity.unit,
        value_range=(least, most),
        slope=1.0,
        intercept=0.0,
        quantity_definition=quantity.definition,
    )
    first = images[0]
    number = int(first.SeriesNumber) + 1
    with warnings.catch_warnings():
        # The library's warnings quote the patient's name.
        warnings.simplefilter("ignore", UserWarning)
        made = ParametricMap(
            source_images=images,
            pixel_array=values_zyx.astype(np.float32),
            series_instance_uid=origin.uid("map", quantity.label),
            series_number=number,
            sop_instance_uid=origin.uid("map instance", quantity.label),
            instance_number=1,
            manufacturer=PRODUCT,
            manufacturer_model_name=origin.pipeline_name[:MAX_DESCRIPTION],
            software_versions=origin.version,
            device_serial_number=origin.settings_sha256,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation((least + most) / 2.0, max(most - least, 1.0))],
            content_description=quantity.description,
            content_label=quantity.label,
            content_qualification=origin.labelling.content_qualification,
        )
    return _settled(made, first, quantity, origin)


def _settled(made: Dataset, image: Dataset, quantity: Quantity, origin: Provenance) -> Dataset:
    """What the library leaves out, or fills in from the clock and by chance."""
    put(made, "SeriesDescription", marked_description(quantity.description, origin.labelling))
    date, time = acquisition_date(image)
    for event in ("Content", "InstanceCreation", "Series"):
        put(made, f"{event}Date", date)
        put(made, f"{event}Time", time)
    # Type 1 (PS3.3 C.7.6.16.2), and the images may have none.
    made.ContentDate, made.ContentTime = date or _NO_DATE[0], time or _NO_DATE[1]
    settle_laterality(made)
    organization = origin.uid("map dimensions", quantity.label)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    made.ContributingEquipmentSequence = list(image.ContributingEquipmentSequence)
    return made
