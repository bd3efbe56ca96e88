"""RT Plan of seeds that were implanted by hand and stay: where each lies, how strong all are, what was prescribed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTPlanStorage, RTStructureSetStorage

from models.seed_dose import HALF_LIFE_H
from pipelines.dicom.companion import (
    NewInstance,
    acquisition_date,
    companion,
    decimal_strings,
    put_frame_of_reference,
    reference,
    sequence_of,
)
from pipelines.dicom.writing import put

_MEAN_LIFE_S = HALF_LIFE_H * 3600.0 / np.log(2.0)


@dataclass(frozen=True)
class SeedPlan:
    """What a made-up plan says."""

    label: str
    """RT Plan Label, at most 16 characters."""
    structure_set_uid: str
    """SOP Instance UID."""
    prescription_gy: float
    target_roi_number: int
    strength_u: float
    """Air-kerma strength of a seed: U is the microgray per hour at 1 m of Reference Air Kerma Rate."""


def seed_plan(header: Dataset, plan: SeedPlan, seeds_lps_mm: NDArray[np.float64], new: NewInstance) -> Dataset:
    """An unapproved RT Plan with one application setup and a channel for each seed.

    References
    ----------
    PS3.3 A.20 RT Plan IOD, C.8.8.9 to C.8.8.13, C.8.8.15 RT Brachy Application Setups
    """
    dataset = companion(header, new, RTPlanStorage, "RTPLAN")
    put_frame_of_reference(dataset, header)
    date, time = acquisition_date(header)
    put(dataset, "RTPlanLabel", plan.label)
    put(dataset, "RTPlanDate", date)
    put(dataset, "RTPlanTime", time)
    dataset.RTPlanGeometry = "PATIENT"
    dataset.ReferencedStructureSetSequence = [reference(RTStructureSetStorage, plan.structure_set_uid)]
    dataset.DoseReferenceSequence = sequence_of(
        DoseReferenceNumber=1,
        DoseReferenceStructureType="VOLUME",
        DoseReferenceType="TARGET",
        ReferencedROINumber=plan.target_roi_number,
        TargetPrescriptionDose=f"{plan.prescription_gy:g}",
    )
    dataset.FractionGroupSequence = sequence_of(
        FractionGroupNumber=1,
        NumberOfFractionsPlanned=1,
        NumberOfBeams=0,
        NumberOfBrachyApplicationSetups=1,
        ReferencedBrachyApplicationSetupSequence=sequence_of(ReferencedBrachyApplicationSetupNumber=1),
    )
    dataset.BrachyTreatmentTechnique, dataset.BrachyTreatmentType = "INTERSTITIAL", "MANUAL"
    dataset.TreatmentMachineSequence = sequence_of(TreatmentMachineName=None)
    dataset.SourceSequence = sequence_of(
        SourceNumber=1,
        SourceType="LINE",
        SourceIsotopeName="I-125",
        SourceIsotopeHalfLife=f"{HALF_LIFE_H / 24.0:g}",
        # Said twice: what is asked for of other sources than photon ones, validators ask for of all.
        SourceStrengthUnits="AIR_KERMA_RATE",
        SourceStrength=f"{plan.strength_u:.6f}",
        ReferenceAirKermaRate=f"{plan.strength_u:.6f}",
        SourceStrengthReferenceDate=date,
        SourceStrengthReferenceTime=time,
    )
    dataset.ApplicationSetupSequence = sequence_of(
        ApplicationSetupType="PERINEAL",
        ApplicationSetupNumber=1,
        TotalReferenceAirKerma=f"{len(seeds_lps_mm) * plan.strength_u * _MEAN_LIFE_S / 3600.0:.3f}",
        ChannelSequence=[_channel(number, seed) for number, seed in enumerate(seeds_lps_mm, start=1)],
    )
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _channel(number: int, seed_lps_mm: NDArray[np.float64]) -> Dataset:
    """A seed is a source that stays at its place from the first to the last control point."""
    place = decimal_strings(seed_lps_mm)
    points = [
        _item(ControlPointIndex=0, CumulativeTimeWeight="0", ControlPointRelativePosition="0"),
        _item(ControlPointIndex=1, CumulativeTimeWeight="1", ControlPointRelativePosition="0"),
    ]
    for point in points:
        put(point, "ControlPoint3DPosition", place)
    return _item(
        ChannelNumber=number,
        ChannelLength=None,
        ChannelTotalTime=f"{_MEAN_LIFE_S:.1f}",
        SourceMovementType="FIXED",
        TransferTubeNumber=None,
        ReferencedSourceNumber=1,
        NumberOfControlPoints=len(points),
        FinalCumulativeTimeWeight="1",
        BrachyControlPointSequence=points,
    )


def _item(**elements: object) -> Dataset:
    (item,) = sequence_of(**elements)
    return item
