"""CT series of any number and size, each with UIDs of its own."""

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.pipelines.made import ct_series


def new_ct_series(slices: int = 5, matrix: int = 16, patient_id: str = "MADE-1", **changes: Any) -> list[Dataset]:
    """A CT series that no other call makes; a smooth ramp with noise, so that every slice differs."""
    rng = np.random.default_rng(slices)
    stored = rng.integers(-900, 900, (slices, matrix, matrix), dtype=np.int16)
    uids = {
        keyword: generate_uid(prefix=None)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    }
    series = ct_series(stored, PatientID=patient_id, **{**uids, **changes})
    for dataset in series:
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return series
