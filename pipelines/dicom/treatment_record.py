"""RT Treatment Records: which fraction was given when; and the least of one, for made-up patients.

References
----------
PS3.3 A.29 RT Beams Treatment Record IOD, C.8.8.17 to C.8.8.22
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import (
    RTBeamsTreatmentRecordStorage,
    RTBrachyTreatmentRecordStorage,
    RTIonBeamsTreatmentRecordStorage,
    RTPlanStorage,
    RTTreatmentSummaryRecordStorage,
)

from pipelines.base import InputRejected
from pipelines.dicom.companion import NewInstance, companion, reference, sequence_of
from pipelines.dicom.elements import items, text, whole_number
from pipelines.dicom.reading import read_instance
from pipelines.dicom.writing import put

SESSIONS = {
    RTBeamsTreatmentRecordStorage: "TreatmentSessionBeamSequence",
    RTIonBeamsTreatmentRecordStorage: "TreatmentSessionIonBeamSequence",
    RTBrachyTreatmentRecordStorage: "TreatmentSessionApplicationSetupSequence",
}
"""Where each kind of record says what was given in the session."""


@dataclass(frozen=True)
class TreatmentRecord:
    """What one record says about fractions."""

    patient_id: str
    date: date | None
    """Of the treatment."""
    fraction_numbers: tuple[int, ...]
    """Current Fraction Number of the beams or applications of the session, each once, ascending."""
    planned: int | None
    """Number of Fractions Planned; None where the record leaves it empty."""


def dicom_date(value: str) -> date | None:
    """A day of VR DA; None where it is none."""
    try:
        return datetime.strptime(value, "%Y%m%d").date()
    except ValueError:
        return None


def read_treatment_record(path: Path) -> TreatmentRecord:
    """Read an RT Beams, Ion Beams or Brachy Treatment Record, or an RT Treatment Summary Record.

    Raises
    ------
    InputRejected
        If the file is broken or is none of these.
    """
    dataset = read_instance(path, _READ)
    class_uid = text(dataset, "SOPClassUID")
    if class_uid not in SESSIONS and class_uid != RTTreatmentSummaryRecordStorage:
        raise InputRejected("A file is not an RT Treatment Record")
    given = {
        number
        for keyword in SESSIONS.values()
        for item in items(dataset, keyword)
        if (number := whole_number(item, "CurrentFractionNumber")) is not None and number > 0
    }
    planned = [
        number
        for item in (dataset, *items(dataset, "FractionGroupSummarySequence"))
        if (number := whole_number(item, "NumberOfFractionsPlanned")) is not None and number > 1
    ]
    return TreatmentRecord(
        patient_id=text(dataset, "PatientID"),
        date=dicom_date(text(dataset, "TreatmentDate")),
        fraction_numbers=tuple(sorted(given)),
        planned=max(planned, default=None),
    )


def usable_records(paths: Iterable[Path]) -> list[TreatmentRecord]:
    """All that can be read; another kind of record than those known is passed over."""
    found: list[TreatmentRecord] = []
    for path in paths:
        try:
            found.append(read_treatment_record(path))
        except InputRejected:
            continue
    return found


def treatment_record(
    header: Dataset, fraction: tuple[int, int], rt_plan_uid: str, day: date, new: NewInstance
) -> Dataset:  # fmt: skip
    """A record of one static photon beam that was given whole, as fraction one of two; of the study of `header`."""
    fraction_number, planned = fraction
    dataset = companion(header, new, RTBeamsTreatmentRecordStorage, "RTRECORD")
    dataset.InstanceNumber = fraction_number
    for event in ("Series", "Treatment"):
        put(dataset, f"{event}Date", day.strftime("%Y%m%d"))
        put(dataset, f"{event}Time", "103000")
    dataset.ReferencedRTPlanSequence = [reference(RTPlanStorage, rt_plan_uid)]
    dataset.TreatmentMachineSequence = sequence_of(
        TreatmentMachineName="PHANTOM", Manufacturer=None, InstitutionName=None, ManufacturerModelName=None,
        DeviceSerialNumber=None,
    )  # fmt: skip
    dataset.PrimaryDosimeterUnit = "MU"
    dataset.ReferencedFractionGroupNumber = 1
    dataset.NumberOfFractionsPlanned = planned
    dataset.TreatmentSessionBeamSequence = [_beam(fraction_number, day)]
    return dataset


_READ = (
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "TreatmentDate",
    "NumberOfFractionsPlanned",
    "FractionGroupSummarySequence",
    *SESSIONS.values(),
)


def _beam(fraction_number: int, day: date) -> Dataset:
    (jaws,) = sequence_of(RTBeamLimitingDeviceType="X", NumberOfLeafJawPairs=1)
    (beam,) = sequence_of(
        ReferencedBeamNumber=1,
        BeamName="OPEN",
        BeamType="STATIC",
        RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT",
        CurrentFractionNumber=fraction_number,
        TreatmentTerminationStatus="NORMAL",
        TreatmentVerificationStatus=None,
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        NumberOfControlPoints=1,
        ControlPointDeliverySequence=[_control_point(day)],
        BeamLimitingDeviceLeafPairsSequence=[jaws],
    )
    return beam


def _control_point(day: date) -> Dataset:
    (jaws,) = sequence_of(RTBeamLimitingDeviceType="X", LeafJawPositions=["-50", "50"])
    (point,) = sequence_of(
        ReferencedControlPointIndex=0,
        TreatmentControlPointDate=day.strftime("%Y%m%d"),
        TreatmentControlPointTime="103000",
        SpecifiedMeterset="100",
        DeliveredMeterset="100",
        DoseRateSet=None,
        DoseRateDelivered=None,
        BeamLimitingDevicePositionSequence=[jaws],
    )
    return point
