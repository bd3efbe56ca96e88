"""Pipelines whose results differ by a known amount; workers import them from here."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydicom.uid import UID, SegmentationStorage

from models.limits import Limits
from pipelines.base import Inputs, Outcome, Pipeline, Progress, no_progress
from pipelines.copy_series import DERIVATION, CopySeries
from pipelines.dicom.derived import derived_ct_series
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.segmentation import segmentation
from pipelines.integrity import identity_finding, integrity_findings
from pipelines.provenance import provenance
from pipelines.stability import judged
from tests.trials import POLL_S


class OffsetCopy(CopySeries):
    """A CT series with an offset, and with fewer slices where that is asked for."""

    offset_hu: float = 0.0
    slices_left_out: int = 0
    gate: Path | None = None
    """Nothing is made before this file is there."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Copy the triggering series and add the offset."""
        while self.gate is not None and not self.gate.exists():
            time.sleep(POLL_S)
        source = read_image_series(inputs.trigger.paths)
        hu_zyx = source.volume.array_zyx + np.float32(self.offset_hu)
        series = derived_ct_series(source, hu_zyx, self, inputs, self.series_description, DERIVATION)
        limits = Limits(flag_above=1000.0, hold_above=1000.0)
        change = judged("largest_change_hu", abs(self.offset_hu), "[hnsf'U]", limits, "Largest change in HU")
        return Outcome((series[self.slices_left_out :],), (*integrity_findings(source, series), change))


class BoxOrgans(Pipeline):
    """A Segmentation of boxes: rows 4 to 11 of every slice, and the columns that are given."""

    produces: ClassVar[frozenset[UID]] = frozenset({SegmentationStorage})
    reports_quality: ClassVar[bool] = False

    columns: Mapping[str, tuple[int, int]]
    """First column, and the one behind the last, by TG-263 name."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Write the boxes."""
        source = read_image_series(inputs.trigger.paths)
        masks = {name: np.zeros(source.volume.array_zyx.shape, np.bool_) for name in self.columns}
        for name, (first, end) in self.columns.items():
            masks[name][:, 4:12, first:end] = True
        made = segmentation(source, masks, provenance(self, inputs), "Boxes").dataset
        return Outcome(((made,),), (identity_finding(source, (made,)),))


class DyingAgreement(Pipeline):
    """A comparison that takes its worker with it."""

    produces: ClassVar[frozenset[UID]] = frozenset()

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Die."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")
