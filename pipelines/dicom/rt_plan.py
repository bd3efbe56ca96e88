"""RT Plan: the least that ties a dose to a structure set and says where the isocenter is. It plans no treatment."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import RTPlanStorage, RTStructureSetStorage

from pipelines.dicom.companion import (
    NewInstance,
    acquisition_date,
    companion,
    decimal_strings,
    put_frame_of_reference,
    reference,
)
from pipelines.dicom.writing import put


@dataclass(frozen=True)
class PlanSketch:
    """What a made-up plan says."""

    label: str
    """RT Plan Label, at most 16 characters."""
    structure_set_uid: str
    """SOP Instance UID."""
    isocenter_lps_mm: Sequence[float]
    prescription_gy: float
    fractions: int
    target_roi_number: int


def rt_plan(header: Dataset, sketch: PlanSketch, new: NewInstance) -> Dataset:
    """An unapproved RT Plan with one static, open photon beam at the isocenter.

    References
    ----------
    PS3.3 A.20 RT Plan IOD, C.8.8.9 to C.8.8.16
    """
    dataset = companion(header, new, RTPlanStorage, "RTPLAN")
    put_frame_of_reference(dataset, header)
    date, time = acquisition_date(header)
    put(dataset, "RTPlanLabel", sketch.label)
    put(dataset, "RTPlanDate", date)
    put(dataset, "RTPlanTime", time)
    dataset.RTPlanGeometry = "PATIENT"
    dataset.ReferencedStructureSetSequence = [reference(RTStructureSetStorage, sketch.structure_set_uid)]
    dataset.DoseReferenceSequence = [_prescription(sketch)]
    dataset.PatientSetupSequence = [_item(PatientPosition="HFS", PatientSetupNumber=1)]
    dataset.FractionGroupSequence = [_fractions(sketch)]
    dataset.BeamSequence = [_beam(sketch)]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        put(item, keyword, value)
    return item


def _prescription(sketch: PlanSketch) -> Dataset:
    return _item(
        DoseReferenceNumber=1,
        DoseReferenceStructureType="VOLUME",
        DoseReferenceType="TARGET",
        ReferencedROINumber=sketch.target_roi_number,
        TargetPrescriptionDose=f"{sketch.prescription_gy:g}",
    )


def _fractions(sketch: PlanSketch) -> Dataset:
    beam = _item(ReferencedBeamNumber=1, BeamMeterset="100")
    return _item(
        FractionGroupNumber=1,
        NumberOfFractionsPlanned=sketch.fractions,
        NumberOfBeams=1,
        NumberOfBrachyApplicationSetups=0,
        ReferencedBeamSequence=[beam],
    )


def _beam(sketch: PlanSketch) -> Dataset:
    return _item(
        Manufacturer="",
        BeamNumber=1,
        BeamName="OPEN",
        BeamType="STATIC",
        RadiationType="PHOTON",
        TreatmentMachineName="PHANTOM",
        SourceAxisDistance="1000",
        BeamLimitingDeviceSequence=[
            _item(RTBeamLimitingDeviceType="X", NumberOfLeafJawPairs=1),
            _item(RTBeamLimitingDeviceType="Y", NumberOfLeafJawPairs=1),
        ],
        PrimaryDosimeterUnit="MU",
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        FinalCumulativeMetersetWeight="1",
        NumberOfControlPoints=2,
        ReferencedPatientSetupNumber=1,
        ControlPointSequence=[_first_control_point(sketch), _item(ControlPointIndex=1, CumulativeMetersetWeight="1")],
    )


def _first_control_point(sketch: PlanSketch) -> Dataset:
    """Everything of a static beam is said at its first control point (PS3.3 C.8.8.14.5)."""
    jaws = [
        _item(RTBeamLimitingDeviceType=axis, LeafJawPositions=["-50", "50"]) for axis in ("X", "Y")
    ]  # fmt: skip
    return _item(
        ControlPointIndex=0,
        CumulativeMetersetWeight="0",
        NominalBeamEnergy="6",
        BeamLimitingDevicePositionSequence=jaws,
        GantryAngle="0",
        GantryRotationDirection="NONE",
        BeamLimitingDeviceAngle="0",
        BeamLimitingDeviceRotationDirection="NONE",
        PatientSupportAngle="0",
        PatientSupportRotationDirection="NONE",
        TableTopEccentricAngle="0",
        TableTopEccentricRotationDirection="NONE",
        TableTopVerticalPosition=None,
        TableTopLongitudinalPosition=None,
        TableTopLateralPosition=None,
        IsocenterPosition=decimal_strings(sketch.isocenter_lps_mm),
    )
