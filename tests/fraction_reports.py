"""A pipeline over the fractions of a treatment, as small as one can be; workers import it from here."""

from collections.abc import Mapping
from typing import ClassVar

from pydicom import Dataset
from pydicom.uid import UID, ComprehensiveSRStorage

from models.limits import Limits
from pipelines.base import InputRejected, Inputs, Need, Outcome, Pipeline, Predecessor, Progress, Tie, no_progress
from pipelines.dicom.reading import read_instance
from pipelines.provenance import provenance
from pipelines.stability import judged

OF_PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
)


class FractionReport(Pipeline):
    """A report of each CBCT that names it and the earlier ones, and the reports before it."""

    needs: ClassVar[Mapping[str, Need]] = {
        "planning_ct": Need(),
        "structure_set": Need(),
        "cbct": Need(at_least=0, at_most=None, tied=Tie.PATIENT, earlier=True),
        "treatment_record": Need(at_least=0, at_most=None, tied=Tie.PATIENT),
        "registration": Need(at_least=0, at_most=None),
    }
    produces: ClassVar[frozenset[UID]] = frozenset({ComprehensiveSRStorage})

    rejects: bool = False
    """Refuse a first fraction, as one would that needs a course."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Write the report."""
        fractions = (*inputs.linked.get("cbct", ()), inputs.trigger)
        if self.rejects and len(fractions) == 1:
            raise InputRejected("One fraction is no course")
        finding = judged("fractions", len(fractions), "1", Limits(flag_above=99, hold_above=99), "Fractions")
        uids = sorted(series.series_instance_uid for series in fractions)
        return Outcome(((_report(self, inputs, uids),),), (finding,))


def _report(pipeline: Pipeline, inputs: Inputs, fractions: list[str]) -> Dataset:
    header, origin = read_instance(inputs.trigger.paths[0], OF_PATIENT), provenance(pipeline, inputs)
    made = Dataset()
    for keyword in OF_PATIENT:
        setattr(made, keyword, header.get(keyword))
    made.SOPClassUID, made.SOPInstanceUID = ComprehensiveSRStorage, origin.uid("report")
    made.SeriesInstanceUID, made.Modality, made.SeriesNumber = origin.uid("series"), "SR", 1
    made.CurrentRequestedProcedureEvidenceSequence = [_evidence(header.StudyInstanceUID, fractions)]
    if inputs.predecessors:
        made.PredecessorDocumentsSequence = [_predecessor(one) for one in inputs.predecessors]
    return made


def _evidence(study_instance_uid: str, series: list[str]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.ReferencedSeriesSequence = study_instance_uid, [Dataset() for _ in series]
    for one, uid in zip(item.ReferencedSeriesSequence, series, strict=True):
        one.SeriesInstanceUID = uid
    return item


def _predecessor(one: Predecessor) -> Dataset:
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    series.SeriesInstanceUID, series.ReferencedSOPSequence = one.series_instance_uid, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = one.study_instance_uid, [series]
    return study
