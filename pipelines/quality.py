"""The quality report of a result: made for every pipeline in one place, so that none can forget it.

It has a series of its own, in the study of the series that started the job.
"""

from collections.abc import Iterator

from pydicom import Dataset

from pipelines.base import Inputs, InputSeries, Outcome, Pipeline
from pipelines.dicom.attributes import EQUIPMENT, FRAME_OF_REFERENCE, IMAGE, PATIENT, PLANE, STUDY
from pipelines.dicom.reading import read_instance
from pipelines.dicom.report import quality_report
from pipelines.provenance import provenance

_READ = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    *PATIENT,
    *STUDY,
    *FRAME_OF_REFERENCE,
    *EQUIPMENT,
    *IMAGE,
    *PLANE,
)


def quality_report_of(pipeline: Pipeline, inputs: Inputs, outcome: Outcome) -> Dataset:
    """How the result was judged, with the headers of all that it was made of and of all that was made as evidence.

    Raises
    ------
    InputRejected
        If an input file can not be read.
    ValueError
        If there is no finding.
    """
    linked = (series for group in inputs.linked.values() for series in group)
    used = list(_headers(inputs.trigger))
    source = used[0]
    used += [header for series in linked for header in _headers(series)]
    made = [dataset for series in outcome.series for dataset in series]
    return quality_report(outcome.findings, [*used, *made], provenance(pipeline, inputs), source=source)


def _headers(series: InputSeries) -> Iterator[Dataset]:
    # In an order of their own: the files come as they arrived, and the first one's dates go into the report.
    headers = [read_instance(path, _READ) for path in series.paths]
    yield from sorted(headers, key=lambda one: str(one.get("SOPInstanceUID", "")))
