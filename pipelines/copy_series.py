"""The template: a pipeline that copies a CT series, voxel for voxel. Start a new pipeline from this file.

It is also useful as it stands: enabled for one role, it proves the whole way from a console through the node to the
planning system, before any model has a part in it.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage

from models.limits import Limits
from pipelines.base import Inputs, Outcome, Pipeline, Progress, no_progress
from pipelines.dicom.derived import Derivation, derived_ct_series
from pipelines.dicom.image_series import read_image_series
from pipelines.integrity import integrity_findings, written_hu
from pipelines.stability import Finding, judged

# The standard has no code for what a new pipeline does; a scheme that starts with 99 is private (PS3.16 8.2).
DERIVATION = Derivation("Copied without change", Code("COPY", "99RTNODE", "Copy"))


class CopySeries(Pipeline):
    """A CT series as a new series with the same HU."""

    # What the node has to find before a job starts, beside the series that triggers it, by role:
    # needs = {"planning_ct": Need()}
    produces: ClassVar[frozenset[UID]] = frozenset({CTImageStorage})

    # A copy needs no proof beside it; a pipeline with a model leaves this line out.
    reports_quality: ClassVar[bool] = False

    # Fields are the settings of the YAML file, with type and default; they enter the UIDs of the result.
    series_description: str = "Copy"

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Copy the triggering series."""
        # Reading refuses all that is not one regular CT volume, so nothing below has to check it again.
        source = read_image_series(inputs.trigger.paths)
        progress(0.5, "read")
        # A model goes here: an array in HU, indexed [slice, row, column], into another of the same shape.
        hu_zyx = source.volume.array_zyx
        series = derived_ct_series(source, hu_zyx, self, inputs, self.series_description, DERIVATION)
        progress(1.0, "copied")
        # A result without findings is held for a person. Each finding is measured on the new datasets, not on what
        # the code above meant to put into them.
        change_hu = written_hu(series) - source.volume.array_zyx
        return Outcome(series=(series,), findings=(*integrity_findings(source, series), _unchanged(change_hu)))


def _unchanged(change_hu: NDArray[np.floating]) -> Finding:
    largest = float(np.abs(change_hu).max())
    # The one limit that needs no measurement: HU are written as whole numbers.
    limits = Limits(flag_above=0.5, hold_above=0.5)
    return judged("largest_change_hu", largest, "[hnsf'U]", limits, "Largest change of a voxel in HU")
